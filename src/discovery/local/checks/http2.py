"""As much of HTTP/2 as health checks need: frames, the opening, one request with literal headers.

Source: RFC 9113 (frames: section 4.1 and 6; preface: 3.4), RFC 7541 section 6.2.3 (literal header fields, never indexed). Headers
of answers are not decoded, since only payloads are looked at.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, NamedTuple

DATA: Final = 0x0
HEADERS: Final = 0x1
RST_STREAM: Final = 0x3
SETTINGS: Final = 0x4
PING: Final = 0x6
GOAWAY: Final = 0x7

ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_MAX_FRAME: Final = 16384
"""What a peer may send to one that has announced nothing else."""


class ProtocolError(Exception):
    """The other side doesn't speak HTTP/2 as it should."""


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


def encode_frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def encode_headers(headers: Iterable[tuple[str, str]]) -> bytes:
    return b"".join(b"\x10" + _text(name) + _text(value) for name, value in headers)


def _text(text: str) -> bytes:
    data = text.encode()
    return _integer(len(data), 7) + data


def _integer(value: int, prefix: int) -> bytes:
    """RFC 7541 section 5.1."""
    limit = (1 << prefix) - 1
    if value < limit:
        return bytes((value,))
    rest, encoded = value - limit, bytearray((limit,))
    while rest >= 128:
        encoded.append(rest % 128 + 128)
        rest //= 128
    return bytes((*encoded, rest))


class Connection:
    """A client's side of a connection that has just been opened."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        writer.write(_PREFACE + encode_frame(SETTINGS))

    def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        self._writer.write(encode_frame(kind, flags, stream, payload))

    async def receive(self) -> Frame:
        """The next frame that is not about the connection itself. Raises `ProtocolError`, `OSError`, `EOFError`."""
        while True:
            frame = await self._next()
            if frame.kind == SETTINGS and not frame.flags & ACK:
                self.send(SETTINGS, ACK)
            elif frame.kind == PING and not frame.flags & ACK:
                self.send(PING, ACK, payload=frame.payload)
            elif frame.kind == GOAWAY and frame.payload[4:8] != bytes(4):
                raise ProtocolError(f"connection closed by the other side: code {int.from_bytes(frame.payload[4:8], 'big')}")
            else:
                return frame

    async def _next(self) -> Frame:
        head = await self._reader.readexactly(9)
        size = int.from_bytes(head[:3], "big")
        if size > _MAX_FRAME:
            raise ProtocolError(f"frame of {size} bytes, at most {_MAX_FRAME} are allowed")
        stream = int.from_bytes(head[5:9], "big") & 0x7FFFFFFF
        return Frame(head[3], head[4], stream, await self._reader.readexactly(size))

    def close(self) -> None:
        self._writer.close()
