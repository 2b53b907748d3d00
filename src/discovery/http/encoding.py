"""From reply records to the bytes of an HTTP response, as Go's `encoding/json` and `net/http` would write them.

JSON is written by msgspec; what Go does beyond it is done here: `<`, `>` and `&` escaped, map keys sorted (records keep the
order of their fields), four spaces of indent and a final newline with `?pretty`.
"""

import asyncio
import functools
import re
import time
import zlib
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Any, Final

import msgspec

from discovery.model.duration import Duration
from discovery.telemetry import Sample

from .freshness import Terms

JSON: Final = b"Content-Type: application/json\r\n"
ERROR_TEXT: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
NO_TYPE: Final = b""

_GZIPPED: Final = b"Content-Encoding: gzip\r\n"
_GZIP_LEVEL: Final = 1
_GZIP_FORMAT: Final = 31
_PIECE: Final = 2048
"""Items encoded in one go."""
_LONG_BODY: Final = 256 * 1024
"""Bytes from which a body is compressed beside the event loop."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


class Reply(msgspec.Struct, gc=False):
    """What a handler answers. `content_type`, `extra` and `contact` are whole header lines; `contact` is what holds for the
    moment only. With `terms` the answer, which is as of `index`, may be kept, and is counted in `sample` whenever it is given
    again."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = NO_TYPE
    extra: bytes = b""
    contact: bytes = b""
    terms: Terms | None = None
    index: int = 0
    close: bool = False
    compressible: bool = True
    sample: Sample | None = None


def _other_types(value: Any) -> Any:
    if isinstance(value, Duration):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"no JSON form for {type(value).__name__}")


_encoder: Final = msgspec.json.Encoder(enc_hook=_other_types, order="deterministic")


def to_json(value: Any, *, pretty: bool = False) -> bytes:
    """`value` as Go would write it."""
    data = _encoder.encode(value)
    if b"<" in data or b">" in data or b"&" in data:
        data = data.replace(b"<", b"\\u003c").replace(b">", b"\\u003e").replace(b"&", b"\\u0026")
    return msgspec.json.format(data, indent=4) + b"\n" if pretty else data


async def list_to_json(items: Any, *, pretty: bool = False) -> bytes:
    """As `to_json`; a long list in pieces between which others get their turn, Raft with its deadlines among them."""
    if pretty or not isinstance(items, list) or len(items) <= _PIECE:
        return to_json(items, pretty=pretty)
    pieces = []
    for start in range(0, len(items), _PIECE):
        pieces.append(to_json(items[start : start + _PIECE])[1:-1])
        await asyncio.sleep(0)
    return b"[" + b",".join(pieces) + b"]"


def clean_text(text: str) -> str:
    """Each lone surrogate, which JSON can spell and UTF-8 cannot, becomes a replacement character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def go_quote(text: str) -> str:
    """`text` in double quotes with escapes, as Go's `%q` writes it."""
    return msgspec.json.encode(clean_text(text)).decode()


def header(name: str, value: str) -> bytes:
    """A header line. Control characters cannot be part of a value and become spaces."""
    clean = "".join(c if c.isprintable() else " " for c in value)
    return f"{name}: {clean}\r\n".encode()


@functools.lru_cache(maxsize=64)
def _start_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


@functools.lru_cache(maxsize=2)
def _date_of(second: int) -> bytes:
    return f"Date: {formatdate(second, usegmt=True)}\r\n".encode()


def date_line() -> bytes:
    """The `Date` header of now."""
    return _date_of(int(time.time()))


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether `gzip` is listed, and not with a weight of zero."""
    for coding in accept_encoding.split(",") if "gzip" in accept_encoding else ():
        name, _, weight = coding.replace(" ", "").partition(";q=")
        if name == "gzip":
            return weight.strip("0.") != "" or not weight
    return False


@functools.lru_cache(maxsize=256)
def _gzip_small(body: bytes) -> bytes:
    return zlib.compress(body, _GZIP_LEVEL, _GZIP_FORMAT)


def gzip(body: bytes) -> bytes:
    """Small bodies repeat (`true`, error texts), so they are compressed once."""
    return _gzip_small(body) if len(body) < 64 else zlib.compress(body, _GZIP_LEVEL, _GZIP_FORMAT)


async def compress_beside(reply: Reply) -> bool:
    """Compress a long body without holding up the loop; whether that was done."""
    if len(reply.body) < _LONG_BODY:
        return False
    reply.body = await asyncio.to_thread(gzip, reply.body)
    reply.extra += _GZIPPED
    return True


def render(reply: Reply, common: bytes, connection: bytes, *, compress: bool, with_body: bool = True) -> tuple[bytes, bytes]:
    """The response in two parts, between which the lines of the moment belong, so that kept answers carry the right ones.

    `common` are header lines that every answer has, `connection` the `Connection` line where there is one.
    """
    body = reply.body
    extra = reply.extra
    if compress and body:
        body = gzip(body)
        extra += _GZIPPED
    length = len(body)
    parts = (reply.content_type, common, extra, connection, b"Content-Length: %d\r\n\r\n" % length, body if with_body else b"")
    return _start_line(reply.status), b"".join(parts)
