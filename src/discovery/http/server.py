"""The HTTP server: from a request's target to its handler, and from the handler's reply to bytes."""

import asyncio
import ipaddress
import logging
import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, cast
from urllib.parse import quote

from aiohttp import HttpVersion10
from aiohttp.abc import AbstractStreamWriter
from aiohttp.web import BaseRequest, StreamResponse

from discovery.model.agent import AgentControl, LocalServices
from discovery.model.delegate import Delegate
from discovery.model.errors import DiscoveryError

from . import kv
from .call import Api, Call
from .encoding import Reply, accepts_gzip, compress_beside, date_line, header, render
from .errors import error_reply, text_reply, unexpected_reply
from .fast_lane import ApiServer, ClientLimit, Connection, Lane
from .kept import Kept, KeptAnswers
from .meter import Meter, Metrics
from .options import HttpOptions, Listener
from .params import BAD_ESCAPE
from .plain_puts import PlainPut
from .routes import Route, Router, clean_path, decode_path, needs_cleaning, request_parts

_log = logging.getLogger(__name__)

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_BACKLOG: Final = 1024
_MAX_LINE: Final = 64 * 1024
"""Bytes of a request line or header: keys and filters may be long."""
_LONG_BODY: Final = 4 << 20
"""Bytes from which a body is neither kept nor copied."""
_SLICE: Final = 1 << 20
_STOP_TIMEOUT: Final = 1.0
"""Seconds that requests in progress get when the server stops."""
_UNQUOTED: Final = "/$&+,:;=@!*'()~"

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Encoded(StreamResponse):
    """A response whose bytes are complete, head included, but for a body that is too long to be copied behind it."""

    def __init__(self, data: bytes, long_body: bytes, *, status: int, keep_alive: bool) -> None:
        super().__init__(status=status)
        self._data = data
        self._long_body = memoryview(long_body)
        self._keep_alive = keep_alive
        self._request: BaseRequest | None = None

    async def prepare(self, request: BaseRequest) -> AbstractStreamWriter | None:
        self._request = request
        return request.writer

    async def write_eof(self, data: bytes = b"") -> None:
        assert self._request is not None
        writer = self._request.writer
        if self._long_body:
            await writer.write(self._data)
            for start in range(0, len(self._long_body), _SLICE):
                await writer.write(self._long_body[start : start + _SLICE])
            await writer.write_eof(data)
        else:
            await writer.write_eof(self._data + data)
        if self._keep_alive:
            cast(Connection, self._request.protocol).answered()


class HttpServer:
    """Answers the HTTP API on any number of listeners."""

    def __init__(
        self, delegate: Delegate, services: LocalServices, agent: AgentControl, metrics: Metrics, options: HttpOptions
    ) -> None:
        self._api = Api(delegate, services, agent, metrics, options)
        self._router = Router()
        self._meter = Meter(metrics)
        self._clients = ClientLimit(options.max_connections_per_client, metrics.client_http_exceeded)
        self._lane = Lane(
            kept=self._new_kept(options),
            clients=self._clients,
            leads=delegate.leads,
            confirm=delegate.confirm,
            contact=delegate.contact,
            put=self._put,
            wait_seconds=lambda wished: self._api.options.wait_seconds(wished),
            tasks=set(),
        )
        self._server: ApiServer | None = None
        self._listening: list[asyncio.Server] = []
        self._socket_files: list[str] = []
        self._configure(options)

    # --- life --------------------------------------------------------------------------------------------------------

    async def start(self, listeners: Sequence[Listener]) -> None:
        """Listen; raises `OSError` where that is not possible, after closing what was opened."""
        if self._server is None:
            self._server = ApiServer(
                self._handle,
                self._lane,
                access_log=None,
                auto_decompress=False,
                max_line_size=_MAX_LINE,
                max_field_size=_MAX_LINE,
            )
        try:
            for listener in listeners:
                self._listening.append(await self._listen(self._server, listener))
        except OSError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop listening, let requests in progress end or cancel them, close every connection."""
        for listening in self._listening:
            listening.close()
        self._listening.clear()
        if self._server is not None:
            self._server.pre_shutdown()
            await self._server.shutdown(_STOP_TIMEOUT)
            self._server = None
        tasks = list(self._lane.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._api.cache.close()
        for path in self._socket_files:
            with suppress(FileNotFoundError):
                os.unlink(path)
        self._socket_files.clear()

    def reconfigure(self, options: HttpOptions) -> None:
        """Take `options` for all requests from now on, also those of open connections."""
        self._configure(options)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Where the TCP listeners are bound."""
        names = [sock.getsockname() for listening in self._listening for sock in listening.sockets]
        return [(name[0], name[1]) for name in names if isinstance(name, tuple)]

    @property
    def fast_hits(self) -> int:
        """How many requests were answered from kept answers."""
        return self._lane.hits

    @property
    def waiting(self) -> int:
        """How many requests wait for a kept answer to change."""
        return self._lane.waiting

    @property
    def open_connections(self) -> dict[str, int]:
        """By client address."""
        return dict(self._clients.open)

    async def _listen(self, server: ApiServer, listener: Listener) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        timeout = listener.handshake_timeout if listener.ssl is not None else None
        if not listener.unix_path:
            return await loop.create_server(
                server, listener.host, listener.port, ssl=listener.ssl, ssl_handshake_timeout=timeout, backlog=_BACKLOG
            )
        _remove_stale_socket(listener.unix_path)
        listening = await loop.create_unix_server(
            server, listener.unix_path, ssl=listener.ssl, ssl_handshake_timeout=timeout, backlog=_BACKLOG
        )
        self._socket_files.append(listener.unix_path)
        if listener.unix_mode is not None:
            os.chmod(listener.unix_path, listener.unix_mode)
        return listening

    def _configure(self, options: HttpOptions) -> None:
        self._api.options = options
        self._clients.limit = options.max_connections_per_client
        self._lane.kept = self._new_kept(options)
        self._writers: list[Network] = [ipaddress.ip_network(net, strict=False) for net in options.allow_write_http_from]
        self._blocked = options.block_endpoints
        common = [b"Vary: Accept-Encoding\r\n"]
        common += [header(name, value) for name, value in options.response_headers.items()]
        if options.translate_wan_addrs:
            common.append(b"X-Consul-Translate-Addresses: true\r\n")
        self._common = b"".join(common)

    @staticmethod
    def _new_kept(options: HttpOptions) -> KeptAnswers:
        return KeptAnswers(max_entries=options.kept_answers, max_bytes=options.kept_bytes)

    # --- a request ---------------------------------------------------------------------------------------------------

    async def _handle(self, request: BaseRequest) -> StreamResponse:
        connection = cast(Connection, request.protocol)
        try:
            return await self._respond(request, connection)
        finally:
            connection.end()

    async def _respond(self, request: BaseRequest, client: Connection) -> StreamResponse:
        reply = await self._answer(request)
        if isinstance(reply, StreamResponse):
            return reply
        keep_alive = request.keep_alive and not reply.close
        old_version = request.version == HttpVersion10
        connection = b""
        if not keep_alive:
            connection = b"Connection: close\r\n"
        elif old_version:
            connection = b"Connection: keep-alive\r\n"
        compress = reply.compressible and accepts_gzip(request.headers.get("Accept-Encoding", ""))
        if compress and await compress_beside(reply):
            compress = False
        with_body = request.method != "HEAD"
        long_body = reply.body if with_body and len(reply.body) >= _LONG_BODY else b""
        start, rest = render(reply, self._common, connection, compress=compress, with_body=with_body and not long_body)
        if old_version:
            start = start.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        if reply.terms is not None and keep_alive and not long_body:
            lasting = start if reply.terms.stale else start + reply.contact
            client.keep(Kept(lasting, rest, reply.terms, reply.index, reply.sample))
        return Encoded(start + date_line() + reply.contact + rest, long_body, status=reply.status, keep_alive=keep_alive)

    async def _answer(self, request: BaseRequest) -> Reply | StreamResponse:
        raw_path, query = request_parts(request.raw_path)
        path = raw_path
        if needs_cleaning(raw_path):
            if BAD_ESCAPE.search(raw_path):
                return text_reply(400, "400 Bad Request", close=True)
            decoded = decode_path(raw_path)
            if decoded is None or (self._api.options.filter_unprintable_paths and not decoded.isprintable()):
                return Reply(400)
            path = decoded if decoded.startswith("/") else "/" + decoded
            if (cleaned := clean_path(path)) != path:
                return _moved(cleaned + "/" if self._router.has_below(cleaned) else cleaned, query, request.method)
        found = self._router.find(path)
        if found is None:
            return self._elsewhere(path, query, request.method)
        if refusal := self._refusal(request.method, request.remote, path, known=request.method in found[0].methods):
            return refusal
        return await self._measured(*found, request, path, query)

    async def _measured(self, route: Route, rest: str, request: BaseRequest, path: str, query: str) -> Reply | StreamResponse:
        sample = self._meter.sample(request.method, route.path)
        started = time.perf_counter()
        reply = await self._run(route, request, path, rest, query)
        if isinstance(reply, StreamResponse):
            return reply
        sample.observe(time.perf_counter() - started)
        self._meter.count_catalog(route.path, reply.status)
        if reply.terms is not None:
            reply.sample = sample
        return reply

    async def _run(self, route: Route, request: BaseRequest, path: str, rest: str, query: str) -> Reply | StreamResponse:
        method = request.method
        handler = route.methods.get(method)
        if handler is None:
            allow = header("Allow", route.allow)
            return Reply(extra=allow) if method == "OPTIONS" else text_reply(405, f"method {method} not allowed", extra=allow)
        try:
            call = Call(self._api, request, path, rest, query)
        except DiscoveryError as error:
            return error_reply(error, with_meta=False)
        try:
            if route.namespaced:
                call.refuse_namespace()
            return await handler(call)
        except ConnectionError:
            raise
        except DiscoveryError as error:
            reply = error_reply(error, with_meta=route.meta_on_error and method == "GET")
        except Exception as error:
            reply = unexpected_reply(error, method, path)
        if call.streaming:
            # Half an answer can't be taken back; the client learns that it is not whole by the end of the connection.
            if request.transport is not None:
                request.transport.close()
            raise ConnectionAbortedError(f"{path} failed after its answer had begun")
        return reply

    async def _put(self, put: PlainPut, address: str) -> tuple[bytes, bool]:
        """The whole response to a write of one key, and whether the connection ends with it."""
        sample = self._meter.sample("PUT", "/v1/kv/")
        started = time.perf_counter()
        reply = self._refusal("PUT", address, f"/v1/kv/{put.key}", known=True)
        if reply is None:
            try:
                reply = await kv.set_plainly(self._api, put.key, put.body)
            except DiscoveryError as error:
                reply = error_reply(error, with_meta=False)
            except Exception as error:
                reply = unexpected_reply(error, "PUT", f"/v1/kv/{put.key}")
        sample.observe(time.perf_counter() - started)
        connection = b"Connection: close\r\n" if reply.close else b""
        start, rest = render(reply, self._common, connection, compress=put.gzip and reply.compressible)
        return start + date_line() + rest, reply.close

    def _refusal(self, method: str, remote: str | None, path: str, *, known: bool) -> Reply | None:
        """What the configuration forbids; a method that is not `known` there is answered 405 whoever asks."""
        if self._blocked and path.startswith(self._blocked):
            return text_reply(403, "Endpoint is blocked by agent configuration")
        if self._writers and known and method not in _SAFE_METHODS and not self._may_write(remote):
            return text_reply(403, "Access is restricted")
        return None

    def _may_write(self, remote: str | None) -> bool:
        """Callers over a socket file have no address; they passed its permissions."""
        if not remote:
            return True
        address = ipaddress.ip_address(remote.partition("%")[0])
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._writers)

    def _elsewhere(self, path: str, query: str, method: str) -> Reply:
        if path == "/":
            return Reply(200, b"Consul Agent", b"Content-Type: text/plain; charset=utf-8\r\n")
        if self._router.has_below(path):
            return _moved(path + "/", query, method)
        return Reply(404)


def _moved(path: str, query: str, method: str) -> Reply:
    location = quote(path, safe=_UNQUOTED) + (f"?{query}" if query else "")
    extra = header("Location", location)
    if method not in ("GET", "HEAD"):
        return Reply(301, extra=extra)
    escaped = location.replace("&", "&amp;").replace('"', "&#34;").replace("<", "&lt;").replace(">", "&gt;")
    body = f'<a href="{escaped}">Moved Permanently</a>.\n\n'.encode()
    return Reply(301, body, b"Content-Type: text/html; charset=utf-8\r\n", extra)


def _remove_stale_socket(path: str) -> None:
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)
