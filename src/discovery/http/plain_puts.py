"""Recognizes the commonest write, a PUT of one key, from its bytes: no parameters, no header that changes what it means, the body
in the same packet. Whatever else there may be to a request, HTTP's parser is there for it."""

import re
from typing import Final

import msgspec

_LINE: Final = re.compile(rb"PUT /v1/kv/((?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*+/?+)++) HTTP/1\.1\r\n")
"""Keys that are the same raw, decoded and cleaned. Possessive, so that no path takes more than one look at each of its bytes."""
_IGNORED: Final = frozenset({b"host", b"user-agent", b"accept", b"content-type", b"accept-language"})
_KNOWN_HEADS: Final = 256


class PlainPut(msgspec.Struct, frozen=True, gc=False):
    """`gzip`: whether the client takes compressed answers."""

    key: str
    body: bytes
    gzip: bool


class _Head(msgspec.Struct, frozen=True, gc=False):
    length: int
    gzip: bool


class PlainPuts:
    """Remembers header blocks, which clients repeat to the byte."""

    def __init__(self) -> None:
        self._heads: dict[bytes, _Head | None] = {}

    def read(self, data: bytes) -> PlainPut | None:
        """The write that `data` is, if it is one and nothing more."""
        line = _LINE.match(data)
        if line is None:
            return None
        end = data.find(b"\r\n\r\n", line.end() - 2)
        if end < 0:
            return None
        head = self._head(data[line.end() : end])
        body = data[end + 4 :]
        if head is None or len(body) != head.length:
            return None
        return PlainPut(line[1].decode(), body, head.gzip)

    def _head(self, block: bytes) -> _Head | None:
        try:
            return self._heads[block]
        except KeyError:
            if len(self._heads) >= _KNOWN_HEADS:
                self._heads.clear()
            head = self._heads[block] = _read_head(block)
            return head


def _read_head(block: bytes) -> _Head | None:
    """None if any header asks for something special."""
    length, gzip = 0, False
    seen: set[bytes] = set()
    for line in block.split(b"\r\n"):
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
    return _Head(length, gzip)
