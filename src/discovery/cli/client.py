"""Requests to an agent's HTTP API, over TCP, TLS or a Unix socket, one connection each.

The standard library's client, because a command must start quickly. Errors are worded as Go's client words them: scripts and
people know them by sight.
"""

import base64
import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, TypeAlias, cast
from urllib.parse import quote, urlencode

from .endpoint import Endpoint, TlsFiles, endpoint_of
from .failure import Failed
from .flags import Parsed

Params: TypeAlias = Mapping[str, str | bool | int | Sequence[str] | None]
"""True becomes a name without value; False, None and empty text are left out."""

_CONNECT_SECONDS: Final = 30.0
_PATH_SAFE: Final = "/$&+,:;=@"
_SCOPE: Final = {"datacenter": "dc", "namespace": "ns", "partition": "partition"}


class RequestError(Exception):
    """No answer, or one that is no success."""


class StatusError(RequestError):
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.text = body.decode(errors="replace")
        super().__init__(f"Unexpected response code: {status} ({self.text})")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    index: int
    """`X-Consul-Index`; 0 where there is none."""
    body: bytes

    def json(self) -> Any:
        """Raises `RequestError`: what answers may be no agent at all."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise RequestError(f"unexpected answer, not JSON: {error}") from None


@dataclass(frozen=True, slots=True)
class Client:
    endpoint: Endpoint
    scope: Params = field(default_factory=dict)
    """Parameters of every request: where it goes."""
    stale: bool = False

    def get(self, path: str, params: Params | None = None, *, accept: Sequence[int] = (200,)) -> Answer:
        """`path` is not escaped yet. Statuses outside `accept` raise `StatusError`."""
        return self._exchange("GET", path, {"stale": self.stale, **(params or {})}, None, accept)

    def put(self, path: str, body: object = None, params: Params | None = None) -> Answer:
        """`body` is bytes, an open file, or goes as JSON."""
        return self._exchange("PUT", path, params or {}, body, (200,))

    def post(self, path: str, body: object = None, params: Params | None = None) -> Answer:
        return self._exchange("POST", path, params or {}, body, (200,))

    def delete(self, path: str, body: object = None, params: Params | None = None) -> Answer:
        return self._exchange("DELETE", path, params or {}, body, (200,))

    @contextlib.contextmanager
    def stream(self, path: str, params: Params | None = None) -> Iterator[http.client.HTTPResponse]:
        """An answer to be read while it is still coming; reading may raise what `http.client` raises."""
        connection = _connection(self.endpoint)
        try:
            target = self._target(path, {"stale": self.stale, **(params or {})})
            response = self._begin(connection, "GET", target, None)
            if response.status != 200:
                raise StatusError(response.status, response.read())
            yield response
        finally:
            connection.close()

    def _exchange(self, method: str, path: str, params: Params, body: object, accept: Sequence[int]) -> Answer:
        connection = _connection(self.endpoint)
        target = self._target(path, params)
        try:
            response = self._begin(connection, method, target, body)
            with self._told(method, target):
                data = response.read()
        finally:
            connection.close()
        if response.status not in accept:
            raise StatusError(response.status, data)
        index = response.headers.get("X-Consul-Index", "0")
        return Answer(response.status, int(index) if index.isdecimal() else 0, data)

    def _target(self, path: str, params: Params) -> str:
        query = urlencode(sorted(_pairs({**self.scope, **params})))
        return quote(path, safe=_PATH_SAFE, errors="surrogateescape") + (f"?{query}" if query else "")

    def _begin(self, connection: http.client.HTTPConnection, method: str, target: str, body: object) -> http.client.HTTPResponse:
        with self._told(method, target):
            connection.connect()
            # Blocking reads last as long as the agent says; only the way there has a limit.
            connection.sock.settimeout(None)
            connection.request(method, target, body=_encoded(body), headers=self._headers())
            return connection.getresponse()

    @contextlib.contextmanager
    def _told(self, method: str, target: str) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(f'{method.capitalize()} "{self.endpoint.url}{target}": {self._reason(error)}') from None

    def _reason(self, error: Exception) -> str:
        if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
            return "EOF"
        if isinstance(error, ssl.SSLError):
            return f"tls: {getattr(error, 'verify_message', '') or (error.reason or str(error)).lower().replace('_', ' ')}"
        if isinstance(error, http.client.HTTPException):
            return f"malformed HTTP response: {error}"
        if self.endpoint.socket_path:
            place = f"unix {self.endpoint.socket_path}"
        else:
            place = f"tcp {_joined(self.endpoint.host, self.endpoint.port)}"
        if isinstance(error, socket.gaierror):
            return f"dial tcp: lookup {self.endpoint.host}: no such host"
        if isinstance(error, TimeoutError):
            return f"dial {place}: i/o timeout"
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return f"dial {place}: connect: {reason[0].lower()}{reason[1:]}"

    def _headers(self) -> dict[str, str]:
        headers = {"User-Agent": "discovery"}
        if self.endpoint.token:
            headers["X-Consul-Token"] = self.endpoint.token
        if self.endpoint.user is not None:
            name, _, password = self.endpoint.user.partition(":")
            headers["Authorization"] = "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()
        return headers


def client_of(given: Parsed) -> Client:
    """A client as the flags of `endpoint` and the environment want it; raises `Failed`."""
    scope = {name: given.text(flag) for flag, name in _SCOPE.items() if flag in given.values}
    return Client(endpoint_of(given), scope, stale="stale" in given.values and given.flag("stale"))


@contextlib.contextmanager
def failing(what: str, code: int = 1) -> Iterator[None]:
    """A request that goes wrong inside ends the command with this text before the reason."""
    try:
        yield
    except RequestError as error:
        raise Failed(f"{what}: {error}", code) from None


def _pairs(params: Params) -> Iterator[tuple[str, str]]:
    for name, value in params.items():
        if value is True:
            yield name, ""
        elif isinstance(value, str | int):
            if value is not False and value != "":
                yield name, str(value)
        elif value is not None:
            yield from ((name, item) for item in value)


def _encoded(body: object) -> bytes | IO[bytes] | None:
    if body is None or isinstance(body, bytes):
        return body
    if hasattr(body, "read"):
        return cast(IO[bytes], body)
    return json.dumps(body).encode()


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# --- connections ----------------------------------------------------------------------------------------------------


def _connection(endpoint: Endpoint) -> http.client.HTTPConnection:
    if endpoint.socket_path:
        return _UnixConnection(endpoint.socket_path)
    if endpoint.tls is not None:
        return _TlsConnection(endpoint.host, endpoint.port, endpoint.tls)
    return http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=_CONNECT_SECONDS)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CONNECT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_CONNECT_SECONDS)
        self.sock.connect(self._path)


class _TlsConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, port: int, files: TlsFiles) -> None:
        self._tls = _tls_context(files)
        self._server_name = files.server_name or host
        super().__init__(host, port, timeout=_CONNECT_SECONDS, context=self._tls)

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._server_name)


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    try:
        if files.ca_file or files.ca_path:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            for certificates in (*([files.ca_file] if files.ca_file else ()), *_certificates_in(files.ca_path)):
                context.load_verify_locations(certificates)
        else:
            context = ssl.create_default_context()
        if files.cert:
            context.load_cert_chain(files.cert, files.key or None)
    except (OSError, ssl.SSLError) as error:
        raise Failed(f"Error connecting to Consul agent: TLS files cannot be used: {error}") from None
    if not files.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _certificates_in(directory: str) -> list[str]:
    """Every file of a CA directory: OpenSSL alone would only see those that are named by hash."""
    if not directory:
        return []
    return [str(path) for path in sorted(Path(directory).iterdir()) if path.is_file()]
