"""Calls to servers: one multiplexed connection for each, its streams used again and again.

A stream carries one call at a time and returns to the idle ones when the call succeeded; after any error it is
ended, as Consul's own pool does. Callers of an address that is being dialled wait for the same connection.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable
from typing import Any, Final

from discovery.wire import go_msgpack, msgpack_rpc, yamux

from .dialer import Dialer
from .first_bytes import RPC_MULTIPLEXED
from .multiplex import KEEP_ALIVE, MultiplexedConnection
from .rpc_server import Methods

log = logging.getLogger(__name__)

MAX_REPLY: Final = 256 << 20
"""Bytes of one reply; a listing of the whole catalog or of all keys comes in one."""

_IDLE_STREAMS: Final = 32
_IDLE_TIME: Final = 120.0  # seconds without a call after which a connection is closed


class RpcError(Exception):
    """The server's answer is an error; `text` is as the server gave it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class ConnectionLost(Exception):
    """The server could not be reached, or it did not answer before the connection broke or time was up.

    `sent` tells whether the call may have been executed nevertheless.
    """

    def __init__(self, address: str, sent: bool, reason: str) -> None:
        super().__init__(f"{address}: {reason}")
        self.address = address
        self.sent = sent


class RpcPool:
    """Connections to servers by address; `methods` gives the types of requests and replies."""

    def __init__(
        self,
        methods: Methods,
        dialer: Dialer | None = None,
        *,
        max_reply: int = MAX_REPLY,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._methods = methods
        self._dialer = dialer or Dialer()
        self._max_reply = max_reply
        self._keep_alive = keep_alive
        self._connections: dict[str, _ServerConnection] = {}
        self._dialling: dict[str, asyncio.Task[_ServerConnection]] = {}
        self._numbers = itertools.count(1)
        self._closed = False

    async def call(self, address: str, method: str, request: object, timeout: float | None = None) -> Any:
        """Ask the server at `ip:port` and return its decoded reply.

        Raises `RpcError` if it answers with an error, `ConnectionLost` if it cannot answer or does not within
        `timeout` seconds. A call that timed out or was cancelled is given up on the server as well.
        """
        body = go_msgpack.encode(request)
        connection = self._connections.get(address)
        try:
            async with asyncio.timeout(timeout):
                connection = connection or await self._connect(address)
                reply = await connection.call(next(self._numbers), method, body)
        except TimeoutError as error:
            sent = connection is not None
            raise ConnectionLost(address, sent, f"no answer within {timeout:g} s") from error
        try:
            return go_msgpack.decode(reply, self._methods[method].reply_type)
        except go_msgpack.DecodeError as error:
            raise RpcError(f"codec.decoder: {error}") from error

    def drop(self, address: str) -> None:
        """Close the connection to a server known to be gone; its calls fail at once."""
        connection = self._connections.pop(address, None)
        if connection is not None:
            connection.transport.abort()

    async def close(self) -> None:
        """Close all connections; calls under way fail."""
        self._closed = True
        dials = list(self._dialling.values())
        for dial in dials:
            dial.cancel()
        await asyncio.gather(*dials, return_exceptions=True)
        connections = list(self._connections.values())
        self._connections.clear()
        for connection in connections:
            connection.close()
            connection.transport.abort()
        await asyncio.gather(*(connection.gone.wait() for connection in connections))

    async def _connect(self, address: str) -> "_ServerConnection":
        """Wait for the connection that some caller, perhaps this one, is having made."""
        if self._closed:
            raise ConnectionLost(address, sent=False, reason="the pool is closed")
        dial = self._dialling.get(address)
        if dial is None:
            dial = asyncio.get_running_loop().create_task(self._dial(address), name=address)
            self._dialling[address] = dial
            dial.add_done_callback(self._dial_ended)
        try:
            return await asyncio.shield(dial)
        except OSError as error:
            raise ConnectionLost(address, sent=False, reason=str(error) or "dial timed out") from error
        except asyncio.CancelledError:
            if self._closed:
                raise ConnectionLost(address, sent=False, reason="the pool is closed") from None
            raise

    def _dial_ended(self, dial: "asyncio.Task[_ServerConnection]") -> None:
        del self._dialling[dial.get_name()]
        if not dial.cancelled():
            # Looked at here, because every caller that waited for it may have given up.
            dial.exception()

    async def _dial(self, address: str) -> "_ServerConnection":
        connection = _ServerConnection(address, self._max_reply, self._keep_alive, self._forget)
        await self._dialer.dial(address, RPC_MULTIPLEXED, connection)
        self._connections[address] = connection
        if connection.closing:
            self._forget(connection)
        return connection

    def _forget(self, connection: "_ServerConnection") -> None:
        """No new calls go to a connection that is lost or takes no streams."""
        if self._connections.get(connection.address) is connection:
            del self._connections[connection.address]


class _Call:
    """What a stream is used for: it parses replies, and someone may be waiting for the next."""

    __slots__ = ("parser", "waiter")

    def __init__(self, max_reply: int) -> None:
        self.parser = msgpack_rpc.MessageParser(max_reply)
        self.waiter: asyncio.Future[msgpack_rpc.Message] | None = None


class _ServerConnection(MultiplexedConnection):
    """One connection of the pool."""

    def __init__(self, address: str, max_reply: int, keep_alive: float, unusable: Callable[["_ServerConnection"], None]) -> None:
        super().__init__(yamux.Session(client=True, max_streams=0), keep_alive=keep_alive)
        self.address = address
        self._max_reply = max_reply
        self._unusable = unusable
        self._streams: dict[int, _Call] = {}
        self._idle: list[int] = []
        self._last_used = asyncio.get_running_loop().time()

    async def call(self, number: int, method: str, body: bytes) -> bytes:
        """Send a packed request, return the packed reply. Raises `RpcError` and `ConnectionLost`."""
        if self.closing or not (self._idle or self.session.accepts_streams):
            raise self._lost("connection closed", sent=False)
        stream = self._idle.pop() if self._idle else self._open()
        call = self._streams[stream]
        call.waiter = asyncio.get_running_loop().create_future()
        self.send(stream, msgpack_rpc.request(number, method, body))
        try:
            message = await call.waiter
        except asyncio.CancelledError:
            self._give_up(stream)
            raise
        finally:
            call.waiter = None
            self._last_used = asyncio.get_running_loop().time()
        return self._take_reply(stream, number, message)

    def _open(self) -> int:
        stream = self.session.open_stream()
        self._streams[stream] = _Call(self._max_reply)
        if not self.session.accepts_streams:
            self._unusable(self)
        return stream

    def _take_reply(self, stream: int, number: int, message: msgpack_rpc.Message) -> bytes:
        try:
            header = msgpack_rpc.read_reply_header(message.header)
        except go_msgpack.DecodeError as error:
            raise self._break(str(error)) from error
        if header.seq != number:
            raise self._break(f"reply {header.seq} to call {number}")
        if header.error:
            self._end(stream)
            raise RpcError(header.error)
        if stream in self._streams:
            self._release(stream)
        return message.body

    def _release(self, stream: int) -> None:
        """A stream that did its duty waits for the next call, unless enough of them do."""
        if len(self._idle) < _IDLE_STREAMS and self.session.accepts_streams:
            self._idle.append(stream)
        else:
            self._end(stream)

    def _end(self, stream: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self.session.end_stream(stream)
            self.schedule_flush()
        self._close_if_done()

    def _give_up(self, stream: int) -> None:
        if self._streams.pop(stream, None) is not None:
            self.session.reset_stream(stream)
            self.schedule_flush()
        self._close_if_done()

    def _close_if_done(self) -> None:
        if not self.session.accepts_streams and len(self._streams) == len(self._idle):
            self.close()

    # What the server does.

    def stream_data(self, stream: int, data: bytes) -> None:
        call = self._streams.get(stream)
        if call is None:
            return
        try:
            messages = call.parser.feed(data)
        except msgpack_rpc.MalformedStream as error:
            self._break(str(error))
            return
        self.session.grant(stream, len(data))
        if not messages:
            return
        if len(messages) > 1 or call.waiter is None or call.waiter.done():
            # A call cancelled in this very turn of the loop has not yet taken its stream out of use.
            if call.waiter is None or not call.waiter.cancelled():
                self._break("reply without a call")
            return
        call.waiter.set_result(messages[0])

    def stream_ended(self, stream: int) -> None:
        self.session.end_stream(stream)
        self.schedule_flush()
        self._lose(stream, "stream closed")

    def stream_reset(self, stream: int) -> None:
        self._lose(stream, "stream reset")

    def went_away(self, reason: int) -> None:
        self._unusable(self)
        self._close_if_done()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unusable(self)
        for stream in list(self._streams):
            self._lose(stream, str(exc) if exc else "EOF")
        super().connection_lost(exc)

    def _check_alive(self) -> None:
        idle = asyncio.get_running_loop().time() - self._last_used
        if idle > _IDLE_TIME and len(self._streams) == len(self._idle):
            self.close()
        else:
            super()._check_alive()

    def _lose(self, stream: int, reason: str) -> None:
        call = self._streams.pop(stream, None)
        if call is None:
            return
        if stream in self._idle:
            self._idle.remove(stream)
        if call.waiter is not None and not call.waiter.done():
            call.waiter.set_exception(self._lost(reason, sent=True))

    def _break(self, reason: str) -> ConnectionLost:
        """Drop a connection whose other end does not keep to the protocol."""
        log.warning("closing connection to %s: %s", self.address, reason)
        self.transport.abort()
        return self._lost(reason, sent=True)

    def _lost(self, reason: str, *, sent: bool) -> ConnectionLost:
        return ConnectionLost(self.address, sent, reason)
