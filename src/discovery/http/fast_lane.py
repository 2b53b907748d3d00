"""A short way for requests that were answered before.

Clients repeat themselves to the byte: the same GET over the same kept-alive connection. The encoded answer to such a request
is kept together with a watch over what it was read from. As long as the watch has not fired and this server holds the
leader's lease, the kept bytes are what a fresh read would give, and they go out before HTTP is even parsed. A consistent read
waits for a quorum to confirm that this server leads before its kept bytes go out. The commonest write, a PUT of one key, is
taken from its bytes too.

The lane may only look at a request that stands alone: nothing in progress, no unread rest in aiohttp's parser. Whether the
parser holds a rest is worked out from what went in: a packet with one whole head, and exactly the body it announces. After
anything else (pipelining, a split head, a chunked body) the connection stays on the long way.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import msgspec
from aiohttp import StreamReader
from aiohttp.web import BaseRequest, RequestHandler, Response, Server, StreamResponse

from discovery.model.delegate import Watch
from discovery.telemetry import Counter as MetricCounter
from discovery.telemetry import Sample

from .encoding import date_line, render
from .errors import text_reply
from .plain_puts import PlainPut, PlainPuts

_log = logging.getLogger(__name__)

_END_OF_HEAD: Final = b"\r\n\r\n"
_MOST_HELD_BACK: Final = 64 * 1024
"""Bytes that a client may send on before its answer; then it is not read from until it has it."""
_REFUSAL_WAIT: Final = 5.0
"""Seconds that a connection over the limit may stay silent before it is closed unanswered."""


class Kept(msgspec.Struct, frozen=True, gc=False):
    """An encoded answer, without the `Date` line that belongs between its parts."""

    start: bytes
    rest: bytes
    watch: Watch
    sample: Sample | None = None
    consistent: bool = False
    """Whether leadership has to be confirmed by a quorum each time."""


class KeptAnswers:
    """Encoded answers by the bytes of their request; the least recently used go first."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, request: bytes) -> Kept | None:
        """The answer to `request` if it still holds."""
        kept = self._entries.get(request)
        if kept is None:
            return None
        if kept.watch.fired:
            self._forget(request)
            return None
        self._entries.move_to_end(request)
        return kept

    def keep(self, request: bytes, kept: Kept) -> None:
        size = _size(request, kept)
        if size > self._max_bytes // 8 or not self._max_entries or kept.watch.fired:
            return
        if request in self._entries:
            self._forget(request)
        self._entries[request] = kept
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, request: bytes) -> None:
        self._bytes -= _size(request, self._entries.pop(request))


def _size(request: bytes, kept: Kept) -> int:
    return len(request) + len(kept.start) + len(kept.rest)


class ClientLimit:
    """Counts open connections by client address, and in `refused` those over the limit. `limit` 0: none is refused."""

    def __init__(self, limit: int, refused: MetricCounter) -> None:
        self.limit = limit
        self.open: Counter[str] = Counter()
        self._refused = refused

    def admit(self, address: str) -> bool:
        if self.limit and self.open[address] >= self.limit:
            self._refused.inc()
            return False
        self.open[address] += 1
        return True

    def release(self, address: str) -> None:
        self.open[address] -= 1
        if self.open[address] <= 0:
            del self.open[address]

    def refusal(self, address: str) -> bytes:
        """The 429 that tells what was exceeded and how to allow more."""
        text = (
            f"Too many connections from {address}: {self.limit} are open, which is the limit. "
            "Use fewer connections, or raise limits.http_max_conns_per_client on this agent."
        )
        start, rest = render(text_reply(429, text), b"", b"Connection: close\r\n", compress=False)
        return start + date_line() + rest


class Lane(msgspec.Struct):
    """What all connections share. `put` carries a write out for a client's address; `confirm` tells whether a quorum confirms
    that this server leads now."""

    kept: KeptAnswers
    clients: ClientLimit
    leads: Callable[[], bool]
    confirm: Callable[[], Awaitable[bool]]
    put: Callable[[PlainPut, str], Awaitable[tuple[bytes, bool]]]
    puts: PlainPuts
    tasks: set[asyncio.Task[None]]
    hits: int = 0


class Connection(RequestHandler):
    """aiohttp's connection with the lane before it. `asked` are the bytes of the request in progress, if it may be kept."""

    __slots__ = ("_address", "_beyond", "_body", "_held_back", "_lane", "_lane_closed", "_refused", "_underway", "asked")

    def __init__(self, manager: Server, lane: Lane, *, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._lane = lane
        self._lane_closed = False
        self._body: StreamReader | None = None
        self._beyond = 0
        self._address = ""
        self._refused = False
        self._underway = False
        self._held_back = b""
        self.asked: bytes | None = None

    # --- who may connect ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._address = str(peer[0]) if isinstance(peer, tuple) else ""
        if not self._address or self._lane.clients.admit(self._address):
            super().connection_made(transport)
            return
        self._refused = True
        # uvloop's transports have the interface without the base class.
        self.transport = cast(asyncio.Transport, transport)
        self._loop.call_later(_REFUSAL_WAIT, transport.close)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._refused:
            self.transport = None
            return
        if self._address:
            self._lane.clients.release(self._address)
        super().connection_lost(exc)

    def _refuse(self) -> None:
        """Only once the request has arrived: closing with unread bytes would reset the connection and lose the answer."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(self._lane.clients.refusal(self._address))
            self.transport.close()

    def handle_error(
        self, request: BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> StreamResponse:
        """What is no HTTP is the client's mistake, and worth a line, not a traceback; a client may go away at any time."""
        if isinstance(exc, ConnectionError):
            _log.debug("connection of %s ended: %s", request.remote, exc)
        elif status >= 500:
            return super().handle_error(request, status, exc, message)
        else:
            _log.info("bad request from %s: %s", request.remote, exc)
        response = Response(status=status, text=message or "Bad Request")
        response.force_close()
        return response

    # --- what they ask -----------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._underway:
            self._held_back += data
            if len(self._held_back) > _MOST_HELD_BACK and self.transport is not None:
                self.transport.pause_reading()
        elif self._lane_closed or not data:
            super().data_received(data)
        elif self._refused:
            self._refuse()
        elif self._body is None:
            self._take_request(data)
        else:
            self._take_body(data)

    def _take_request(self, data: bytes) -> None:
        idle = self._waiter is not None and not self._waiter.done() and not self._messages
        if idle and not self._paused and (self._answer_from_lane(data) or self._put_from_lane(data)):
            return
        self._parse(data, idle=idle)

    def _parse(self, data: bytes, *, idle: bool) -> None:
        """The long way."""
        head = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        self.asked = data if idle and head == len(data) and data.startswith(b"GET ") else None
        before = self._request_count
        super().data_received(data)
        if head < len(_END_OF_HEAD) or self._request_count != before + 1:
            self._close_lane()
            return
        self._beyond = len(data) - head
        self._body = self._messages[-1][1]
        self._check_body()

    def _take_body(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        self._beyond += len(data)
        if self._request_count != before:
            self._close_lane()
        else:
            self._check_body()

    def _check_body(self) -> None:
        """Whether all that came after the head was the body, and the parser thus holds nothing more."""
        body = self._body
        if body is not None and body.is_eof() and body.total_bytes == self._beyond:
            self._body = None

    def _close_lane(self) -> None:
        self._lane_closed = True
        self.asked = None

    def _open(self) -> bool:
        return not (self._force_close or self._close or self.transport is None)

    def _answer_from_lane(self, data: bytes) -> bool:
        lane = self._lane
        kept = lane.kept.find(data)
        if kept is None or not self._open():
            return False
        if kept.consistent:
            self._begin(self._answer_confirmed(data))
            return True
        if not lane.leads():
            return False
        self._send_kept(kept)
        return True

    def _send_kept(self, kept: Kept) -> None:
        lane = self._lane
        lane.hits += 1
        if kept.sample is not None:
            kept.sample.inc(0.0)
        self._send(kept.start + date_line() + kept.rest)

    def _send(self, response: bytes) -> None:
        if self.transport is not None:
            self.transport.write(response)
        self._request_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    async def _answer_confirmed(self, data: bytes) -> None:
        """What was kept still holds if nothing fired after a quorum has confirmed us."""
        confirmed = await self._lane.confirm()
        kept = self._lane.kept.find(data) if confirmed else None
        self._underway = False
        if kept is not None:
            self._send_kept(kept)
        elif self._open():
            self._parse(data, idle=True)

    def _put_from_lane(self, data: bytes) -> bool:
        put = self._lane.puts.read(data) if data.startswith(b"PUT /v1/kv/") and self._open() else None
        if put is None:
            return False
        self._begin(self._put(put))
        return True

    async def _put(self, put: PlainPut) -> None:
        response, last = await self._lane.put(put, self._address)
        self._underway = False
        self._send(response)
        if last and self.transport is not None:
            self.transport.close()

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        """While it is under way, what the client sends on is held back."""
        self._underway = True
        task = self._loop.create_task(self._finish(work))
        self._lane.tasks.add(task)
        task.add_done_callback(self._lane.tasks.discard)

    async def _finish(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except BaseException:
            if self.transport is not None:
                self.transport.close()
            raise
        data, self._held_back = self._held_back, b""
        if len(data) > _MOST_HELD_BACK and self.transport is not None:
            self.transport.resume_reading()
        if data:
            self.data_received(data)


class ApiServer(Server):
    """aiohttp's server with our connections."""

    def __init__(self, handler: Any, lane: Lane, **settings: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **settings)
        self._lane = lane

    def __call__(self) -> RequestHandler:
        return Connection(self, self._lane, loop=self._loop, **self._kwargs)
