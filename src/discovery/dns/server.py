"""The DNS door: listens, answers from what it keeps, and otherwise looks up."""

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from discovery.model.delegate import Delegate
from discovery.telemetry import Metrics

from .answers import REJECTED, UNRESOLVED, UNSUPPORTED, Plan
from .cache import MAX_AGE, AnswerCache, Kept
from .desk import Send
from .following import Following
from .last_known import Asker, LastKnown
from .lookups import Found, Lookups
from .names import Foreign, Lookup, NodeLookup, Nothing, ReverseLookup, ServiceLookup
from .options import DnsOptions, seconds
from .packing import pack
from .questions import Question, question_of, respelt
from .rare_log import RareLog
from .recursor import NoAnswer, Recursors
from .sockets import bind
from .stale import StaleOnError
from .tcp import Connections, TcpConnection
from .udp import UdpListener, listener
from .wire import AXFR, FORMERR, HEADER, NOTIMP, OPCODE, QR, SERVFAIL, Malformed, Query, lowered, parse_query, refusal

_log = logging.getLogger(__name__)

_SHARED: Final = (NodeLookup, ServiceLookup, Nothing)
"""Lookups whose answer does not depend on who asks. An address spelt in its name is answered faster than looked up here."""
MAX_IN_FLIGHT: Final = 4096
"""Questions being looked up; beyond, they are answered SERVFAIL at once."""


class _Setup(msgspec.Struct, frozen=True):
    """Everything that follows from one set of options; a reload makes a new one."""

    options: DnsOptions
    recursors: Recursors
    lookups: Lookups
    finder: Lookups | StaleOnError
    udp: AnswerCache
    tcp: AnswerCache

    def question_of(self, packet: bytes) -> Question | None:
        """Without compression every owner is written out as the client has spelt it: each spelling has an answer of its own."""
        return question_of(packet, any_case=not self.options.disable_compression)


class DnsServer:
    """Answers DNS over UDP and TCP. `rng` mixes answers.

    `hits` counts answers that were kept, `malformed` packets that were no questions, `lost` what could not be answered or sent.
    """

    def __init__(
        self,
        delegate: Delegate,
        options: DnsOptions,
        rng: random.Random,
        *,
        node_name: str,
        datacenter: str,
        metrics: Metrics,
    ) -> None:
        self._delegate = delegate
        self._following = Following(delegate, time.monotonic)
        self._last_known = LastKnown(self._following, time.monotonic)
        self._rng = rng
        self._node_name = node_name
        self._datacenter = datacenter
        self._metrics = metrics
        self._listeners: list[UdpListener] = []
        self._servers: list[asyncio.Server] = []
        self._connections = Connections(self)
        self._tasks: set[asyncio.Task[None]] = set()
        self._rarely = RareLog(_log)
        self.addresses: list[tuple[str, int]] = []
        self.malformed = 0
        self.lost = 0
        self.hits = 0
        self._setup = self._set_up(options)

    async def start(self, addresses: Sequence[tuple[str, int]]) -> None:
        """Listen on each host and port (0: any); `self.addresses` then tells them. Raises `OSError`, and listens nowhere then."""
        try:
            for host, port in addresses:
                await self._listen(host, port)
        except OSError:
            await self.stop()
            raise
        self._setup.recursors.avoid(self.addresses)

    async def stop(self) -> None:
        for each in self._listeners:
            each.close()
        for server in self._servers:
            server.close()
        self._connections.close()
        self._setup.recursors.close()
        self._following.close()
        self._listeners.clear()
        self._servers.clear()
        self.addresses.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def reconfigure(self, options: DnsOptions) -> None:
        """Take over other options; what was kept under the old ones is forgotten. Raises `ValueError` for a bad recursor."""
        self._setup = self._set_up(options)
        self._setup.recursors.avoid(self.addresses)

    def _set_up(self, options: DnsOptions) -> _Setup:
        recursors = Recursors(options, self._rng)
        self._last_known.keep_for(options.serve_stale_for / 1e9)
        lookups = self._lookups(self._last_known, options, recursors)
        finder: Lookups | StaleOnError = lookups
        if options.serve_stale_for:
            old = self._lookups(self._last_known.recall, options, recursors)
            finder = StaleOnError(lookups, old, ttl=seconds(options.serve_stale_ttl), clock=time.monotonic)
        return _Setup(options, recursors, lookups, finder, self._empty_cache(options), self._empty_cache(options))

    def _lookups(self, asker: Asker, options: DnsOptions, recursors: Recursors) -> Lookups:
        return Lookups(
            asker,
            options,
            recursors,
            node_name=self._node_name,
            datacenter=self._datacenter,
            metrics=self._metrics,
            rng=self._rng,
        )

    def _empty_cache(self, options: DnsOptions) -> AnswerCache:
        return AnswerCache(self._delegate.leads, max_entries=options.kept_answers, max_bytes=options.kept_bytes)

    async def _listen(self, host: str, port: int) -> None:
        udp, tcp = bind(host, port)
        self.addresses.append(udp.getsockname()[:2])
        self._listeners.append(listener(udp, self))
        loop = asyncio.get_running_loop()
        self._servers.append(await loop.create_server(lambda: TcpConnection(self._connections), sock=tcp))

    # --- the desk: what listeners ask --------------------------------------------------------------------------------

    def ready(self, packet: bytes, now: float, *, tcp: bool) -> bytes | None:
        setup = self._setup
        cache = setup.tcp if tcp else setup.udp
        answer = cache.find(packet[2:], now)
        if answer is None:
            question = setup.question_of(packet)
            answer = cache.find(question.key, now) if question is not None else None
            if answer is None:
                return None
            assert question is not None
            answer = respelt(answer, question)
        self.hits += 1
        self._metrics.dns_domain_query.inc(0.0)
        return packet[:2] + answer

    def take(self, packet: bytes, client: str, send: Send, *, tcp: bool) -> None:
        if len(packet) < HEADER.size or packet[2] & (QR >> 8):
            self._complain("DNS packet from %s that is no question", client)
            send(b"")
        elif packet[2] & (OPCODE >> 8):
            send(refusal(packet, NOTIMP))
        elif len(self._tasks) >= MAX_IN_FLIGHT:
            self.dropped(f"{MAX_IN_FLIGHT} questions are waiting")
            send(refusal(packet, SERVFAIL))
        else:
            try:
                query = parse_query(packet)
            except Malformed as error:
                self._complain("malformed DNS question from %s: %s", client, error)
                send(refusal(packet, FORMERR))
                return
            task = asyncio.create_task(self._answer(packet, query, client, send, tcp=tcp))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def dropped(self, reason: str) -> None:
        self.lost += 1
        self._rarely.warning("DNS traffic lost: %s", reason)

    def _complain(self, text: str, *details: object) -> None:
        self.malformed += 1
        self._rarely.warning(text, *details)

    # --- answering ---------------------------------------------------------------------------------------------------

    async def _answer(self, packet: bytes, query: Query, client: str, send: Send, *, tcp: bool) -> None:
        started = time.perf_counter()
        setup = self._setup
        lookup = setup.lookups.classify(query)
        try:
            answer = await self._answer_of(setup, packet, query, lookup, client, tcp=tcp)
        except Exception:
            _log.exception("answering %s failed", query)
            answer = refusal(packet, SERVFAIL)
        send(answer)
        metrics = self._metrics
        series = metrics.dns_ptr_query if isinstance(lookup, ReverseLookup) else metrics.dns_domain_query
        series.observe(time.perf_counter() - started)

    async def _answer_of(self, setup: _Setup, packet: bytes, query: Query, lookup: Lookup, client: str, *, tcp: bool) -> bytes:
        if isinstance(lookup, Foreign):
            return await self._forward(setup, packet, query, REJECTED, tcp=tcp)
        if query.type == AXFR:
            return self._draw(setup, query, UNSUPPORTED, tcp=tcp)
        question = setup.question_of(packet) if isinstance(lookup, _SHARED) else None
        if question is not None and question.spells(query.name):
            return await self._shared_answer(setup, packet, question, query, lookup, client, tcp=tcp)
        found = await setup.finder.find(query, lookup, client)
        if found.plan is UNRESOLVED:
            return await self._forward(setup, packet, query, UNRESOLVED, tcp=tcp)
        return self._draw(setup, query, found.plan, tcp=tcp)

    async def _shared_answer(
        self, setup: _Setup, packet: bytes, question: Question, query: Query, lookup: Lookup, client: str, *, tcp: bool
    ) -> bytes:
        """An answer that equal questions may get, too; made for one way to spell the name."""
        cache = setup.tcp if tcp else setup.udp
        # Another question of the same wake-up may have filled the cache meanwhile.
        answer = cache.find(question.key, asyncio.get_running_loop().time())
        if answer is None:
            if not setup.options.disable_compression:
                query = msgspec.structs.replace(query, name=lowered(query.name))
            found = await setup.finder.find(query, lookup, client)
            drawn = self._draw(setup, query, found.plan, tcp=tcp)
            if found.watch is not None:
                self._keep(setup, cache, question.key, query, found, drawn, tcp=tcp)
            answer = drawn[2:]
        return packet[:2] + respelt(answer, question)

    def _draw(self, setup: _Setup, query: Query, plan: Plan, *, tcp: bool) -> bytes:
        return pack(query, plan, setup.options, self._rng, tcp=tcp, serial=int(time.time()))

    def _keep(
        self, setup: _Setup, cache: AnswerCache, question: bytes, query: Query, found: Found, answer: bytes, *, tcp: bool
    ) -> None:
        assert found.watch is not None
        kept = Kept(
            lambda: self._draw(setup, query, found.plan, tcp=tcp),
            answer,
            watch=found.watch,
            varies=found.plan.varies,
            leader_only=not setup.options.stale_reads,
            until=asyncio.get_running_loop().time() + min(MAX_AGE, found.fresh_for),
        )
        cache.keep(question, kept)

    async def _forward(self, setup: _Setup, packet: bytes, query: Query, otherwise: Plan, *, tcp: bool) -> bytes:
        """Other servers' answer to a question that we have no answer to; `otherwise` if there are no other servers."""
        if not setup.recursors:
            return self._draw(setup, query, otherwise, tcp=tcp)
        try:
            return await setup.recursors.forward(packet, tcp=tcp)
        except NoAnswer:
            return self._draw(setup, query, UNRESOLVED, tcp=tcp)
