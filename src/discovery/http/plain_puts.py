"""Recognizes the commonest write, a PUT of one key, from its bytes: no parameters, no header that changes what it means, the body
in the same packet. Whatever else there may be to a request, HTTP's parser is there for it."""

import re
from typing import Final

import msgspec

from .heads import read_head

_LINE: Final = re.compile(rb"PUT /v1/kv/((?:[A-Za-z0-9_~-][A-Za-z0-9_~.-]*+/?+)++) HTTP/1\.1\r\n")
"""Keys that are the same raw, decoded and cleaned. Possessive, so that no path takes more than one look at each of its bytes."""


class PlainPut(msgspec.Struct, frozen=True, gc=False):
    """`gzip`: whether the client takes compressed answers."""

    key: str
    body: bytes
    gzip: bool


def read_put(data: bytes) -> PlainPut | None:
    """The write that `data` is, if it is one and nothing more."""
    line = _LINE.match(data)
    if line is None:
        return None
    end = data.find(b"\r\n\r\n", line.end() - 2)
    if end < 0:
        return None
    head = read_head(data[line.end() : end])
    body = data[end + 4 :]
    if head is None or len(body) != head.length:
        return None
    return PlainPut(line[1].decode(), body, head.gzip)
