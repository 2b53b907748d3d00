"""gRPC checks: the standard health protocol (`grpc.health.v1.Health/Check`) over HTTP/2.

Source: gRPC health checking protocol, gRPC over HTTP/2. The answer's one field tells: 1 is SERVING.
"""

import asyncio
import ssl as tls
from typing import Final

from . import http2
from .dialing import DialError, connect
from .result import Result, critical, passing

_STREAM: Final = 1
_PATH: Final = "/grpc.health.v1.Health/Check"
_STATES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING: Final = 1
_MAX_REPLY: Final = 1024


class GrpcProbe:
    """`target` is `host:port`, or `host:port/service` to ask about one service."""

    def __init__(self, target: str, timeout: float, context: tls.SSLContext | None, server_name: str = "") -> None:
        self._target = target
        self._address, _, self._service = target.partition("/")
        self._timeout = timeout
        self._context = context
        self._server_name = server_name
        if context is not None:
            context.set_alpn_protocols(["h2"])

    async def run(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                status = await self._ask()
        except TimeoutError:
            return critical("rpc error: code = DeadlineExceeded desc = context deadline exceeded")
        except DialError as error:
            text = f'connection error: desc = "transport: Error while dialing {error}"'
            return critical(f"rpc error: code = Unavailable desc = {text}")
        except (http2.ProtocolError, OSError, EOFError) as error:
            return critical(f"rpc error: code = Unavailable desc = {error}")
        if status is None:
            return critical(f"gRPC {self._target} does not answer health requests for this service")
        if status != _SERVING:
            return critical(f"gRPC {self._target} serving status: {_STATES.get(status, status)}")
        return passing(f"gRPC check {self._target}: success")

    async def _ask(self) -> int | None:
        """The status that the server tells; None if it answers without one."""
        connection = http2.Connection(*await connect(self._address, self._timeout, self._context, self._server_name))
        try:
            connection.send(http2.HEADERS, http2.END_HEADERS, _STREAM, self._headers())
            connection.send(http2.DATA, http2.END_STREAM, _STREAM, _message(self._service))
            return _status_of(await _reply(connection))
        finally:
            connection.close()

    def _headers(self) -> bytes:
        scheme = "https" if self._context is not None else "http"
        return http2.encode_headers(
            (
                (":method", "POST"),
                (":scheme", scheme),
                (":path", _PATH),
                (":authority", self._server_name or self._address),
                ("content-type", "application/grpc"),
                ("te", "trailers"),
            )
        )


def _message(service: str) -> bytes:
    """`HealthCheckRequest` with gRPC's prefix: not compressed, length."""
    name = service.encode()[:127]
    body = b"\x0a" + bytes((len(name),)) + name if name else b""
    return b"\x00" + len(body).to_bytes(4, "big") + body


async def _reply(connection: http2.Connection) -> bytes:
    """All data of the answer."""
    data = b""
    while True:
        frame = await connection.receive()
        if frame.stream != _STREAM:
            continue
        if frame.kind == http2.RST_STREAM:
            raise http2.ProtocolError(f"stream reset: code {int.from_bytes(frame.payload, 'big')}")
        if frame.kind == http2.DATA:
            data += _unpadded(frame)
        if len(data) > _MAX_REPLY:
            raise http2.ProtocolError(f"an answer of more than {_MAX_REPLY} bytes")
        if frame.flags & http2.END_STREAM and frame.kind in (http2.DATA, http2.HEADERS):
            return data


def _unpadded(frame: http2.Frame) -> bytes:
    if not frame.flags & http2.PADDED or not frame.payload:
        return frame.payload
    return frame.payload[1 : len(frame.payload) - frame.payload[0]]


def _status_of(data: bytes) -> int | None:
    """Field 1 of `HealthCheckResponse`; left out it is 0."""
    if len(data) < 5:
        return None
    body = data[5:]
    return body[1] if len(body) >= 2 and body[0] == 0x08 else 0
