"""A client's side of one HTTP/2 connection: as much as health checks need. The protocol itself is the library `h2`."""

import asyncio
import ssl as tls
from collections.abc import Sequence
from typing import Final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import msgspec

from .dialing import connect

MAX_ANSWER: Final = 4096
"""Bytes of an answer's body."""
_READ: Final = 64 * 1024
_OTHER_PROTOCOL: Final = b"HTTP/1."

Headers = Sequence[tuple[str, str]]


class ProtocolError(Exception):
    """The other side doesn't speak HTTP/2 as it should, or refuses to go on."""


class Response(msgspec.Struct):
    """Trailers count as headers."""

    headers: dict[str, str]
    body: bytes


class Connection:
    """`open` it, use it for one thing, `close` it. Raises `ProtocolError`, `OSError` and `EOFError`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
        self._h2.initiate_connection()
        self._flush()

    @classmethod
    async def open(cls, address: str, timeout: float, context: tls.SSLContext | None, server_name: str) -> "Connection":
        """Over TLS if there is a context, which offers HTTP/2. Raises `DialError`."""
        return cls(*await connect(address, timeout, context, server_name))

    async def ping(self, payload: bytes) -> None:
        """Return when the other side acknowledges a PING frame of 8 bytes."""
        self._h2.ping(payload)
        while True:
            for event in await self._events():
                if isinstance(event, h2.events.PingAckReceived) and event.ping_data == payload:
                    return

    async def request(self, headers: Headers, body: bytes) -> Response:
        stream = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream, headers)
        self._h2.send_data(stream, body, end_stream=True)
        response = Response({}, b"")
        while True:
            for event in await self._events():
                match event:
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        response.headers.update((str(name), str(value)) for name, value in event.headers or ())
                    case h2.events.DataReceived():
                        response.body += event.data or b""
                        if len(response.body) > MAX_ANSWER:
                            raise ProtocolError(f"an answer of more than {MAX_ANSWER} bytes")
                    case h2.events.StreamReset():
                        raise ProtocolError(f"stream reset: {_name_of(event.error_code)}")
                    case h2.events.StreamEnded():
                        return response

    async def _events(self) -> list[h2.events.Event]:
        self._flush()
        data = await self._reader.read(_READ)
        if not data:
            raise EOFError("the connection was closed")
        if data.startswith(_OTHER_PROTOCOL):
            # h2 takes this for the beginning of a frame of some megabytes and waits for the rest.
            raise ProtocolError("not HTTP/2: the other side speaks HTTP/1")
        try:
            events = self._h2.receive_data(data)
        except (h2.exceptions.ProtocolError, UnicodeDecodeError) as error:
            raise ProtocolError(f"not HTTP/2: {error}") from None
        self._flush()
        for event in events:
            if isinstance(event, h2.events.ConnectionTerminated) and event.error_code:
                raise ProtocolError(f"connection closed by the other side: {_name_of(event.error_code)}")
        return events

    def _flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    def close(self) -> None:
        self._writer.close()


def _name_of(code: object) -> str:
    return code.name if isinstance(code, h2.errors.ErrorCodes) else f"code {code}"
