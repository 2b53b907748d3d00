"""Header blocks of which it is enough to know a little; clients repeat them to the byte."""

import functools
from typing import Final

import msgspec

_IGNORED: Final = frozenset({b"host", b"user-agent", b"accept", b"content-type", b"accept-language"})


class Head(msgspec.Struct, frozen=True, gc=False):
    """`length`: bytes of the body; `gzip`: whether the client takes compressed answers."""

    length: int
    gzip: bool


@functools.lru_cache(maxsize=256)
def read_head(block: bytes) -> Head | None:
    """The header lines between the request line and the empty line; None if any of them asks for something special."""
    length, gzip = 0, False
    seen: set[bytes] = set()
    for line in block.split(b"\r\n") if block else ():
        name, colon, value = line.partition(b":")
        name, value = name.lower(), value.strip()
        if name in seen:
            return None
        seen.add(name)
        if name == b"content-length" and value.isdigit() and len(value) < 10:
            length = int(value)
        elif name == b"accept-encoding":
            gzip = b"gzip" in value
            if b";" in value:
                return None
        elif name == b"connection" and value.lower() == b"keep-alive":
            continue
        elif name not in _IGNORED or not colon:
            return None
    return Head(length, gzip)
