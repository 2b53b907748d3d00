"""Serves calls on the server port: one after the other on a stream, any number of streams beside each other.

A call that fails is answered with the text of its error. One that names no method, or whose body does not fit the
method, is answered so too and ends its stream, as the callers expect. A stream that is reset, or a connection that is
lost, cancels the call it was waiting for; a stream merely ended by the caller still gets its answers.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

from discovery.model.errors import DiscoveryError
from discovery.wire import go_msgpack, msgpack_rpc, yamux

from .connection import Connection
from .multiplex import KEEP_ALIVE, MultiplexedConnection

log = logging.getLogger(__name__)

MAX_REQUEST: Final = 8 << 20
"""Bytes of one call; a KV value may have 512 KiB, a transaction not much more."""

MAX_STREAMS: Final = 8192
"""Open streams of one connection; a blocking query of a client agent keeps one."""


class Method(Protocol):
    """The types of a method, as far as they matter on the wire."""

    @property
    def request_type(self) -> type[Any]:
        """The Struct that is asked."""

    @property
    def reply_type(self) -> Any:
        """The Struct, or the bare type, that is answered."""


Methods = Mapping[str, Method]
Dispatch = Callable[[str, Any], Awaitable[object]]
"""Method name and decoded request -> reply; whatever it raises becomes the error text of the reply."""


class RpcServer:
    """Makes the connections that serve calls: `multiplexed` for byte 4, `single` for byte 0."""

    def __init__(
        self, dispatch: Dispatch, methods: Methods, *, max_request: int = MAX_REQUEST, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self._dispatch = dispatch
        self._methods = methods
        self._services = {name.partition(".")[0] for name in methods}
        self._max_request = max_request
        self._keep_alive = keep_alive

    def multiplexed(self) -> Connection:
        """A connection that carries calls on yamux streams."""
        return _MultiplexedCalls(self, self._keep_alive)

    def single(self) -> Connection:
        """A connection that is itself one stream of calls."""
        return _BareCalls(self)

    def parser(self) -> msgpack_rpc.MessageParser:
        """What reads one stream of calls."""
        return msgpack_rpc.MessageParser(self._max_request)

    async def answer(self, message: msgpack_rpc.Message) -> tuple[bytes, bool]:
        """The packed reply to a packed call, and whether the stream goes on. Raises `DecodeError` on a bad header."""
        header = msgpack_rpc.read_request_header(message.header)
        name = header.service_method
        method = self._methods.get(name)
        if method is None:
            return msgpack_rpc.error_reply(header.seq, name, self._unknown(name)), False
        try:
            request = go_msgpack.decode(message.body, method.request_type)
        except go_msgpack.DecodeError as error:
            return msgpack_rpc.error_reply(header.seq, name, f"codec.decoder: {error}"), False
        try:
            reply = await self._dispatch(name, request)
            return msgpack_rpc.reply(header.seq, name, *await _encoded(reply)), True
        except DiscoveryError as error:
            return msgpack_rpc.error_reply(header.seq, name, str(error)), True
        except Exception as error:
            log.exception("%s failed", name)
            return msgpack_rpc.error_reply(header.seq, name, str(error) or type(error).__name__), True

    def _unknown(self, name: str) -> str:
        service, dot, _ = name.rpartition(".")
        if not dot:
            return f"rpc: service/method request ill-formed: {name}"
        return f"rpc: can't find {'method' if service in self._services else 'service'} {name}"


async def _encoded(reply: object) -> list[bytes]:
    """Others get their turn between the parts of a long reply."""
    parts: list[bytes] = []
    for part in go_msgpack.encode_in_parts(reply):
        if parts:
            await asyncio.sleep(0)
        parts.append(part)
    return parts


class _Calls:
    """The calls of one stream. While calls wait for their turn, no more bytes are granted to the caller."""

    __slots__ = ("_ended", "_finish", "_grant", "_parser", "_server", "_task", "_waiting", "_withheld", "_write", "drained")

    def __init__(
        self,
        server: RpcServer,
        *,
        write: Callable[[bytes], None],
        grant: Callable[[int], None],
        finish: Callable[[], None],
    ) -> None:
        self._server = server
        self._write = write
        self._grant = grant
        self._finish = finish
        self._parser = server.parser()
        self._waiting: deque[msgpack_rpc.Message] = deque()
        self._withheld = 0
        self._task: asyncio.Task[None] | None = None
        self._ended = False
        self.drained = asyncio.Event()

    def receive(self, data: bytes) -> None:
        """Bytes of the caller."""
        if self._ended:
            return
        try:
            self._waiting.extend(self._parser.feed(data))
        except msgpack_rpc.MalformedStream as error:
            log.warning("closing stream of calls: %s", error)
            self.end()
            return
        if self._waiting and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())
        if self._waiting:
            self._withheld += len(data)
        else:
            self._grant(len(data))

    def end(self) -> None:
        """No more calls come; those received are still answered."""
        self._ended = True
        if self._task is None:
            self._finish()

    def cancel(self) -> None:
        """Nobody waits for answers any more."""
        self._ended = True
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    async def _serve(self) -> None:
        goes_on = True
        try:
            while self._waiting and goes_on:
                goes_on = await self._serve_next()
        except go_msgpack.DecodeError as error:
            log.warning("closing stream of calls: %s", error)
            goes_on = False
        self._task = None
        self._grant(self._withheld)
        self._withheld = 0
        if self._ended or not goes_on:
            self._ended = True
            self._finish()

    async def _serve_next(self) -> bool:
        reply, goes_on = await self._server.answer(self._waiting.popleft())
        self.drained.clear()
        self._write(reply)
        if self._waiting:
            # A caller that writes ahead without reading must not pile up replies here.
            await self.drained.wait()
        return goes_on


class _MultiplexedCalls(MultiplexedConnection):
    def __init__(self, server: RpcServer, keep_alive: float) -> None:
        super().__init__(yamux.Session(client=False, max_streams=MAX_STREAMS), keep_alive=keep_alive)
        self._server = server
        self._calls: dict[int, _Calls] = {}

    def stream_opened(self, stream: int) -> None:
        self._calls[stream] = _Calls(
            self._server,
            write=lambda data: self.send(stream, data),
            grant=lambda count: self.session.grant(stream, count),
            finish=lambda: self._finish(stream),
        )

    def stream_data(self, stream: int, data: bytes) -> None:
        calls = self._calls.get(stream)
        if calls is not None:
            calls.receive(data)

    def stream_ended(self, stream: int) -> None:
        calls = self._calls.get(stream)
        if calls is not None:
            calls.end()

    def stream_reset(self, stream: int) -> None:
        calls = self._calls.pop(stream, None)
        if calls is not None:
            calls.cancel()

    def stream_drained(self, stream: int) -> None:
        calls = self._calls.get(stream)
        if calls is not None:
            calls.drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        for calls in self._calls.values():
            calls.cancel()
        self._calls.clear()
        super().connection_lost(exc)

    def _finish(self, stream: int) -> None:
        self._calls.pop(stream, None)
        self.session.end_stream(stream)
        self.schedule_flush()


class _BareCalls(Connection):
    """The connection's own flow control stands in for the stream's: reading pauses while calls wait.

    Its end is taken as the loss of the caller, since a connection under TLS cannot be closed in one direction only.
    """

    def __init__(self, server: RpcServer) -> None:
        super().__init__()
        self._calls = _Calls(server, write=self._write, grant=self._grant, finish=self._finish)
        self._received = 0  # bytes not granted again yet

    def data_received(self, data: bytes) -> None:
        self._received += len(data)
        self._calls.receive(data)
        if self._received >= yamux.INITIAL_WINDOW:
            self.transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._calls.cancel()
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._calls.drained.set()

    def _write(self, data: bytes) -> None:
        self.transport.write(data)
        if not self.congested:
            self._calls.drained.set()

    def _grant(self, count: int) -> None:
        self._received -= count
        if self._received < yamux.INITIAL_WINDOW and not self.transport.is_closing():
            self.transport.resume_reading()

    def _finish(self) -> None:
        self.transport.close()
