"""A short way for requests that were answered before.

Clients repeat themselves to the byte: the same GET over the same kept-alive connection. The encoded answer to such a request
is kept together with a watch over what it was read from. As long as the watch has not fired and this server holds the
leader's lease, the kept bytes are what a fresh read would give, and they go out before HTTP is even parsed. A consistent read
waits for a quorum to confirm that this server leads before its kept bytes go out; a stale one asks for no lease, and tells how
long ago the leader was heard of. A blocking query of a client that has seen
the kept answer waits for its watch, here, with all others who wait for the same; then one of them goes the long way, and what it
is answered goes to all. The commonest write, a PUT of one key, is taken from its bytes too.

The lane may only look at a request that stands alone: nothing in progress, no unread rest in aiohttp's parser. Whether the
parser holds a rest is worked out from what went in: a packet with one whole head, and exactly the body it announces. After
anything else (pipelining, a split head, a chunked body) the connection stays on the long way.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, cast

import msgspec
from aiohttp import StreamReader
from aiohttp.web import BaseRequest, RequestHandler, Response, Server, StreamResponse

from discovery.model.delegate import LeaderContact
from discovery.telemetry import Counter as MetricCounter

from .encoding import date_line, render
from .errors import text_reply
from .freshness import contact_headers
from .kept import Kept, KeptAnswers, Waiters
from .plain_gets import PlainGet, at_once, read_get
from .plain_puts import PlainPut, read_put

_log = logging.getLogger(__name__)

_END_OF_HEAD: Final = b"\r\n\r\n"
_MOST_HELD_BACK: Final = 64 * 1024
"""Bytes that a client may send on before its answer; then it is not read from until it has it."""
_REFUSAL_WAIT: Final = 5.0
"""Seconds that a connection over the limit may stay silent before it is closed unanswered."""


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
    """What all connections share. `put` carries a write out for a client's address; `leads`, `confirm` and `contact` are the
    delegate's; `wait_seconds` is how long a client waits who wishes for so many nanoseconds."""

    kept: KeptAnswers
    clients: ClientLimit
    leads: Callable[[], bool]
    confirm: Callable[[], Awaitable[bool]]
    contact: Callable[[], LeaderContact | None]
    put: Callable[[PlainPut, str], Awaitable[tuple[bytes, bool]]]
    wait_seconds: Callable[[int], float]
    tasks: set[asyncio.Task[None]]
    hits: int = 0
    waiting: int = 0
    """How many connections wait for an answer to change."""

    def response(self, kept: Kept) -> bytes | None:
        """What was kept as an answer of now, unless a fresh one could be another: for lack of the lease, or for its age."""
        if not kept.terms.stale:
            return kept.start + date_line() + kept.rest if kept.terms.consistent or self.leads() else None
        contact = self.contact()
        if contact is None or 0 < kept.terms.max_stale < contact.age:
            return None
        return kept.start + date_line() + contact_headers(contact.known, contact.age) + kept.rest


class _Wait(msgspec.Struct):
    data: bytes
    among: Waiters
    timer: asyncio.TimerHandle


class Connection(RequestHandler):
    """aiohttp's connection with the lane before it. `asked` is the question in progress, if its answer may be kept."""

    __slots__ = (
        "_address",
        "_asks_for",
        "_beyond",
        "_body",
        "_busy",
        "_held_back",
        "_lane",
        "_lane_closed",
        "_refused",
        "_underway",
        "_wait",
        "asked",
    )

    def __init__(self, manager: Server, lane: Lane, *, loop: asyncio.AbstractEventLoop, **settings: Any) -> None:
        super().__init__(manager, loop=loop, **settings)
        self._lane = lane
        self._lane_closed = False
        self._body: StreamReader | None = None
        self._beyond = 0
        self._busy = False
        self._address = ""
        self._refused = False
        self._underway = False
        self._held_back = b""
        self._wait: _Wait | None = None
        self._asks_for: Waiters | None = None
        self.asked: PlainGet | None = None

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
        self._end_wait()
        if (others := self._others()) is not None:
            others.ask_again()
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
        idle = self._is_idle()
        asked = None
        if idle and data.startswith(b"GET "):
            kept = self._lane.kept.find(data)
            if kept is not None and self._answer_from_lane(kept, data, data):
                return
            asked = read_get(data)
            if asked is not None and self._answer_question(asked, data):
                return
        elif idle and self._put_from_lane(data):
            return
        self._parse(data, asked)

    def _is_idle(self) -> bool:
        """aiohttp waits for a request, or is about to."""
        if self._messages:
            return False
        return not self._busy or (self._waiter is not None and not self._waiter.done())

    def answered(self) -> None:
        """The answer to what went the long way is written. aiohttp takes some turns of the loop until it waits again; a client
        may be faster."""
        self._busy = False

    def _parse(self, data: bytes, asked: PlainGet | None) -> None:
        """The long way."""
        self._busy = True
        head = data.find(_END_OF_HEAD) + len(_END_OF_HEAD)
        self.asked = asked
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
        return not (self._force_close or self._close or self._paused or self.transport is None)

    def _answer_question(self, asked: PlainGet, data: bytes) -> bool:
        kept = self._lane.kept.find(asked.question)
        if kept is None or asked.index > kept.index:
            return False
        if asked.index == kept.index:
            return self._wait_for_change(kept, asked, data)
        if not asked.index:
            self._lane.kept.keep(data, kept)
        return self._answer_from_lane(kept, asked.question, data)

    def _answer_from_lane(self, kept: Kept, question: bytes, data: bytes) -> bool:
        if not self._open():
            return False
        if kept.terms.consistent:
            self._begin(self._answer_confirmed(question, data))
            return True
        return self._send_kept(kept, self._lane.response(kept))

    def _send_kept(self, kept: Kept, response: bytes | None) -> bool:
        if response is None:
            return False
        self._lane.hits += 1
        if kept.sample is not None:
            kept.sample.inc(0.0)
        self._send(response)
        return True

    def _send(self, response: bytes) -> None:
        if self.transport is not None:
            self.transport.write(response)
        self._request_count += 1
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout

    async def _answer_confirmed(self, question: bytes, data: bytes) -> None:
        """What was kept still holds if nothing fired after a quorum has confirmed us."""
        confirmed = await self._lane.confirm()
        kept = self._lane.kept.find(question) if confirmed else None
        self._underway = False
        if kept is None or not self._send_kept(kept, self._lane.response(kept)):
            self._parse(data, read_get(data))

    def _put_from_lane(self, data: bytes) -> bool:
        put = read_put(data) if data.startswith(b"PUT /v1/kv/") and self._open() else None
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
        self._go_on()

    def _go_on(self) -> None:
        """With what was held back."""
        data, self._held_back = self._held_back, b""
        if len(data) > _MOST_HELD_BACK and self.transport is not None:
            self.transport.resume_reading()
        if data:
            self.data_received(data)

    # --- waiting for what they ask to change -------------------------------------------------------------------------

    def _wait_for_change(self, kept: Kept, asked: PlainGet, data: bytes) -> bool:
        lane = self._lane
        if not self._open() or lane.response(kept) is None:
            return False
        timer = self._loop.call_later(lane.wait_seconds(asked.wait), self._waited_enough)
        self._wait = _Wait(data, kept.wait(self), timer)
        self._underway = True
        lane.waiting += 1
        return True

    def _end_wait(self) -> bytes:
        """The request that waited."""
        wait = self._wait
        if wait is None:
            return b""
        self._wait = None
        self._underway = False
        self._lane.waiting -= 1
        wait.timer.cancel()
        wait.among.remove(self)
        return wait.data

    def _waited_enough(self) -> None:
        self._take_request(at_once(self._end_wait()))
        self._go_on()

    def ask_for(self, others: Waiters) -> None:
        """Without waiting: something has changed, and after a restore the index may be lower."""
        self._asks_for = others
        self._ask(at_once(self._end_wait()))

    def ask_alone(self) -> None:
        self._ask(self._end_wait())

    def _ask(self, data: bytes) -> None:
        self._parse(data, read_get(data))
        self._go_on()

    def hear(self, kept: Kept, response: bytes) -> None:
        self._end_wait()
        self._send_kept(kept, response)
        self._go_on()

    def keep(self, kept: Kept) -> None:
        """The answer to what was asked on the long way; `end` follows."""
        if self.asked is None:
            return
        self._lane.kept.keep(self.asked.question, kept)
        response = self._lane.response(kept)
        if response is not None and (others := self._others()) is not None:
            others.tell(kept, response)

    def end(self) -> None:
        """The long way is over."""
        if (others := self._others()) is not None:
            others.part()

    def _others(self) -> Waiters | None:
        """Those for whom this one asks; they are told once."""
        others, self._asks_for = self._asks_for, None
        return others


class ApiServer(Server):
    """aiohttp's server with our connections."""

    def __init__(self, handler: Any, lane: Lane, **settings: Any) -> None:
        super().__init__(handler, handler_cancellation=True, **settings)
        self._lane = lane

    def __call__(self) -> RequestHandler:
        return Connection(self, self._lane, loop=self._loop, **self._kwargs)
