"""gRPC checks: the standard health protocol (`grpc.health.v1.Health/Check`) over HTTP/2.

Source: gRPC health checking protocol; gRPC over HTTP/2; protobuf encoding. Both messages have one field: a name is asked for, a
status is told, of which 1 is SERVING.
"""

import asyncio
import ssl as tls
from typing import Final
from urllib.parse import unquote

from .dialing import DialError
from .http2 import Connection, ProtocolError, Response
from .result import Result, critical, passing

_PATH: Final = "/grpc.health.v1.Health/Check"
_STATES: Final = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
_SERVING: Final = 1
_CODES: Final = (
    *("OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists", "PermissionDenied"),
    *("ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented", "Internal", "Unavailable"),
    *("DataLoss", "Unauthenticated"),
)
_PREFIX: Final = 5
"""Bytes before a message: whether it is compressed, and its length."""


class _RpcError(Exception):
    """The text is worded as gRPC's Go implementation words it."""

    def __init__(self, code: str, description: str) -> None:
        super().__init__(f"rpc error: code = {code} desc = {description}")


class GrpcProbe:
    """`target` is `host:port`, or `host:port/service` to ask about one service."""

    def __init__(self, target: str, timeout: float, context: tls.SSLContext | None, server_name: str = "") -> None:
        self._target = target
        self._address, _, self._service = target.partition("/")
        self._timeout = timeout
        self._context = context
        self._server_name = server_name

    async def run(self) -> Result:
        try:
            async with asyncio.timeout(self._timeout):
                status = _status_of(await self._ask())
        except _RpcError as error:
            return critical(str(error))
        except TimeoutError:
            return critical(str(_RpcError("DeadlineExceeded", "context deadline exceeded")))
        except DialError as error:
            text = f'connection error: desc = "transport: Error while dialing {error}"'
            return critical(str(_RpcError("Unavailable", text)))
        except (ProtocolError, OSError, EOFError) as error:
            return critical(str(_RpcError("Unavailable", str(error))))
        if status != _SERVING:
            return critical(f"gRPC {self._target} serving status: {_STATES.get(status, status)}")
        return passing(f"gRPC check {self._target}: success")

    async def _ask(self) -> bytes:
        """The message that answers. Raises `_RpcError` if there is none."""
        connection = await Connection.open(self._address, self._timeout, self._context, self._server_name)
        try:
            return _message_in(await connection.request(self._headers(), _framed(_request(self._service))))
        finally:
            connection.close()

    def _headers(self) -> list[tuple[str, str]]:
        return [
            (":method", "POST"),
            (":scheme", "https" if self._context is not None else "http"),
            (":path", _PATH),
            (":authority", self._server_name or self._address),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("user-agent", "Consul Health Check"),
        ]


def _message_in(response: Response) -> bytes:
    headers = response.headers
    status = headers.get("grpc-status")
    if status is None:
        http = headers.get(":status", "none")
        text = "server closed the stream without sending trailers" if http == "200" else f"unexpected HTTP status code {http}"
        raise _RpcError("Internal" if http == "200" else "Unknown", text)
    if status != "0":
        code = _CODES[int(status)] if status.isdecimal() and int(status) < len(_CODES) else f"Code({status})"
        raise _RpcError(code, unquote(headers.get("grpc-message", "")))
    body = response.body
    if len(body) < _PREFIX or body[0] or int.from_bytes(body[1:_PREFIX]) != len(body) - _PREFIX:
        raise _RpcError("Internal", "the answer is not one plain message")
    return body[_PREFIX:]


# --- the two messages ------------------------------------------------------------------------------------------------


def _framed(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4) + message


def _request(service: str) -> bytes:
    """`HealthCheckRequest`: field 1, a string; left out if empty."""
    name = service.encode()
    return b"\x0a" + _varint(len(name)) + name if name else b""


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes((*encoded, number))


def _status_of(message: bytes) -> int:
    """`HealthCheckResponse`: field 1, an enumeration; 0 if left out."""
    return message[1] if len(message) >= 2 and message[0] == 0x08 else 0
