"""Takes a GET apart from its bytes into the question, which many clients ask alike, and what a blocking query adds to it."""

import functools
import re
from typing import Final

import msgspec

from discovery.model.errors import InvalidRequest

from .heads import read_head
from .params import parse_wait

_LINE: Final = re.compile(rb"GET (/[^ ?]*)(?:\?([^ ]*))? HTTP/1\.1\r\n")
_SPECIAL: Final = re.compile(rb"(?:^|\n)(?:content-length|transfer-encoding|expect|upgrade|connection)", re.IGNORECASE)
"""Headers after which more may come than a head, or after which the connection is another."""
_LONGEST_INDEX: Final = 19


class PlainGet(msgspec.Struct, frozen=True, gc=False):
    """`question` is the same for requests that have the same answer; `index` is the one that the client has seen, 0 for none, and
    `wait` how many nanoseconds it wants to wait for a newer one, 0 for the default."""

    question: bytes
    index: int = 0
    wait: int = 0


def read_get(data: bytes) -> PlainGet | None:
    """The question that `data` is, if it is a whole one and nothing more."""
    line = _LINE.match(data)
    if line is None or data.find(b"\r\n\r\n", line.end() - 2) != len(data) - 4:
        return None
    meaning = _meaning(data[line.end() : -4])
    if meaning is None:
        return None
    path, query = line.groups()
    if query is None:
        return PlainGet(b"%s %s" % (path, meaning))
    waiting = _split(query)
    if waiting is None:
        return None
    rest, index, wait = waiting
    return PlainGet(b"%s?%s %s" % (path, rest, meaning) if rest else b"%s %s" % (path, meaning), index, wait)


def at_once(data: bytes) -> bytes:
    """The request `data`, which `read_get` understood, without waiting."""
    line = _LINE.match(data)
    assert line is not None
    path, query = line.groups()
    waiting = _split(query or b"")
    assert waiting is not None
    return b"GET %s?%s HTTP/1.1\r\n%s" % (path, waiting[0], data[line.end() :])


@functools.lru_cache(maxsize=256)
def _meaning(block: bytes) -> bytes | None:
    """What of the headers the answer may depend on; None if they are not all there is to the request."""
    head = read_head(block)
    if head is not None:
        return None if head.length else b"gzip" if head.gzip else b""
    return None if _SPECIAL.search(block) else block


def _split(query: bytes) -> tuple[bytes, int, int] | None:
    """The query without `index` and `wait`, and these; None where they are not plain to see, or wrong."""
    rest: list[bytes] = []
    found: dict[bytes, bytes] = {}
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in (b"index", b"wait"):
            if name in found:
                return None
            found[name] = value
        elif b"%" in name:
            return None
        elif part:
            rest.append(part)
    index, wait = found.get(b"index") or b"0", _wait(found.get(b"wait", b""))
    if wait is None or not index.isdigit() or len(index) > _LONGEST_INDEX:
        return None
    return b"&".join(rest), int(index), wait


@functools.lru_cache(maxsize=256)
def _wait(text: bytes) -> int | None:
    if not text:
        return 0
    try:
        return parse_wait(text.decode("ascii"))
    except (InvalidRequest, UnicodeDecodeError):
        return None
