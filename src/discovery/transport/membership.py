"""A gossip pool on real sockets: the shell around `gossip.serf`.

After everything that happens to the core (packets, stream data, a deadline, a call from the agent) the shell takes what the
core wants done: packets to send, exchanges to run, events to tell, and the next deadline to wait for. Before a deadline is
handed in, all packets that wait are: after a stall of the loop, what others said meanwhile counts before their silence does.
"""

import asyncio
import logging
import random
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from discovery.gossip.events import (
    Event,
    KeyringChanged,
    Member,
    MemberFailed,
    MemberJoined,
    MemberLeft,
    MemberReaped,
    MemberStatus,
    MemberUpdated,
    NameConflict,
    UserEvent,
)
from discovery.gossip.keys import INSTALL, LIST, REMOVE, USE, KeyResult
from discovery.gossip.members import Address
from discovery.gossip.profile import LAN, LOCAL, WAN, Profile
from discovery.gossip.security import KeyRefused, Keyring, Protection
from discovery.gossip.serf import RefusedMerge, Serf, SerfOptions, UnknownMember, UserEventTooLarge, accept_all
from discovery.gossip.serf_messages import TagsTooLarge
from discovery.gossip.swim import Exchange
from discovery.gossip.vivaldi import Coordinate as Place
from discovery.model.errors import RequestFailed
from discovery.model.records import Coordinate
from discovery.telemetry import Metrics

from .membership_metrics import PoolMetrics
from .membership_snapshot import SnapshotFile
from .membership_sockets import Datagrams, ServedConnection, bind, run_exchange

__all__ = [
    "LAN",
    "LOCAL",
    "WAN",
    "Event",
    "JoinFailed",
    "KeyRefused",
    "KeyResult",
    "KeyringChanged",
    "Member",
    "MemberFailed",
    "MemberJoined",
    "MemberLeft",
    "MemberReaped",
    "MemberStatus",
    "MemberUpdated",
    "Membership",
    "NameConflict",
    "PoolOptions",
    "Profile",
    "RefusedMerge",
    "TagsTooLarge",
    "UnknownMember",
    "UserEvent",
    "UserEventTooLarge",
]

_BATCH: Final = 256
"""Packets read before others get their turn."""
_BEFORE_DEADLINE: Final = 16_384
_MAX_STREAMS: Final = 128
_FLUSH_INTERVAL: Final = 0.5
_REJOIN_INTERVAL: Final = 30.0
_LOOK_INTERVAL: Final = 1.0
_NOTES_INTERVAL: Final = 10.0
_NOTES_PER_INTERVAL: Final = 20


class JoinFailed(RequestFailed):
    """No address could be contacted; `failures` says why for each."""

    def __init__(self, failures: Sequence[str]) -> None:
        count = "1 error" if len(failures) == 1 else f"{len(failures)} errors"
        lines = "".join(f"\t* {failure}\n" for failure in failures)
        super().__init__(f"{count} occurred:\n{lines}\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolOptions:
    """Times in seconds."""

    name: str
    bind_address: str
    advertise_address: str = ""
    """Where others reach us, if not at `bind_address`."""
    port: int
    """0 takes a free one."""
    profile: Profile = LAN
    tags: dict[str, str] = field(default_factory=dict)
    keyring: Sequence[bytes] | None = None
    """Keys of 16, 24 or 32 bytes, primary first."""
    verify_incoming: bool = True
    verify_outgoing: bool = True
    """Both are turned off only while encryption is being introduced."""
    compress: bool = False
    """What we send; what we receive may always be compressed."""
    snapshot_path: Path | None = None
    rejoin_after_leave: bool = False
    merge_check: Callable[[Sequence[Member]], None] = accept_all
    """Raises `RefusedMerge`; asked about whole groups on joining, and about every node that turns up."""
    reconnect_timeout: float = 72 * 3600.0
    tombstone_timeout: float = 24 * 3600.0
    leave_propagate_delay: float = 3.0
    coalesce_period: float = 0.0
    quiescent_period: float = 0.0
    """For user events that allow it, see `gossip.coalesce`; Consul leaves them at zero."""


class Membership:
    """Our part in a gossip pool. `on_event` is called on the event loop, in the order of what happened, ourselves included.

    `rng` makes nonces when there is a keyring: outside of tests it must be a `random.SystemRandom`. The pool's numbers go into
    `metrics`, if given.
    """

    def __init__(
        self,
        options: PoolOptions,
        *,
        on_event: Callable[[Event], None],
        rng: random.Random,
        log: logging.Logger,
        metrics: Metrics | None = None,
    ) -> None:
        self._options = options
        self._on_event = on_event
        self._rng = rng
        self._log = log
        self._metrics = metrics or Metrics()
        self._core: Serf | None = None
        self._datagrams: Datagrams | None = None
        self._server: asyncio.Server | None = None
        self._connections: set[ServedConnection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._alarm: asyncio.TimerHandle | None = None
        self._alarm_at = 0.0
        self._left = asyncio.Event()
        self._flush: asyncio.TimerHandle | None = None
        self._look: asyncio.TimerHandle | None = None
        self._notes = _Notes(log)
        self._snapshot: SnapshotFile | None = None

    # --- start and stop --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Bind, be a group of one, and look for those an earlier run knew. Raises OSError, `TagsTooLarge`, `KeyRefused`."""
        options = self._options
        udp, tcp = bind(options.bind_address, options.port)
        self._datagrams = Datagrams(udp, self._metrics)
        address = (options.advertise_address or options.bind_address, udp.getsockname()[1])
        try:
            core = self._core = self._make_core(address)
            remembered = self._restore(core)
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accept, sock=tcp)
        except BaseException:
            udp.close()
            tcp.close()
            raise
        loop.add_reader(udp.fileno(), self._packets_wait)
        core.start(time.monotonic())
        self._measure(PoolMetrics(core, self._metrics))
        self._react()
        if remembered:
            self._spawn(self._rejoin(remembered))

    def _make_core(self, address: Address) -> Serf:
        options = self._options
        protection = Protection(
            self._rng,
            Keyring(options.keyring) if options.keyring else None,
            verify_incoming=options.verify_incoming,
            verify_outgoing=options.verify_outgoing,
            compress=options.compress,
        )
        serf_options = SerfOptions(
            name=options.name,
            address=address,
            tags=options.tags,
            profile=options.profile,
            merge_check=options.merge_check,
            reconnect_timeout=options.reconnect_timeout,
            tombstone_timeout=options.tombstone_timeout,
            leave_propagate_delay=options.leave_propagate_delay,
            coalesce_period=options.coalesce_period,
            quiescent_period=options.quiescent_period,
        )
        return Serf(serf_options, protection, self._rng, time.monotonic())

    def _restore(self, core: Serf) -> list[Address]:
        """Take up an earlier run's memory; the nodes it knew."""
        if self._options.snapshot_path is None:
            return []
        snapshot = self._snapshot = SnapshotFile(self._options.snapshot_path, keep_on_leave=self._options.rejoin_after_leave)
        snapshot.open()
        core.restore(snapshot.content)
        return [address for name, address in snapshot.content.nodes.items() if name != self._options.name]

    async def stop(self) -> None:
        """Fall silent at once: to the others we fail, unless we left before."""
        loop = asyncio.get_running_loop()
        for handle in (self._alarm, self._flush, self._look):
            if handle is not None:
                handle.cancel()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._datagrams is not None:
            loop.remove_reader(self._datagrams.fileno())
            self._datagrams.close()
        if self._server is not None:
            self._server.close()
        for connection in list(self._connections):
            connection.abort()
        if self._snapshot is not None and self._core is not None:
            self._snapshot.flush(self._core.clocks())
            self._snapshot.close()
        self._datagrams = self._server = self._snapshot = None

    async def leave(self) -> None:
        """Go on purpose: returns when the others had time to hear of it. `stop` is still to be called."""
        if self._snapshot is not None:
            self._snapshot.leave(self._running().clocks())
        self._running().leave(time.monotonic())
        self._react()
        await self._left.wait()

    # --- joining ---------------------------------------------------------------------------------------------------------

    async def join(self, addresses: Sequence[str]) -> int:
        """Become one group with those at `host`, `host:port` or `[v6]:port`; how many were contacted. Raises `JoinFailed`."""
        outcomes = await asyncio.gather(*map(self._join_at, addresses))
        contacted = sum(count for count, _ in outcomes)
        failures = [failure for _, some in outcomes for failure in some]
        if not contacted and failures:
            raise JoinFailed(failures)
        for failure in failures:
            self._log.warning("%s", failure)
        if contacted:
            self._running().joined(time.monotonic())
            self._react()
        return contacted

    async def _join_at(self, address: str) -> tuple[int, list[str]]:
        """How many nodes behind one address were contacted, and why the others were not."""
        try:
            destinations = await self._resolve(address)
        except OSError as error:
            return 0, [f"Failed to resolve {address}: {_lookup_failure(address, error)}"]
        except ValueError as error:
            return 0, [f"Failed to resolve {address}: {error}"]
        exchanges = [self._running().join(destination) for destination in destinations]
        await asyncio.gather(*(run_exchange(exchange, self._metrics) for exchange in exchanges))
        self._react()
        failed = [exchange for exchange in exchanges if exchange.error is not None]
        return len(exchanges) - len(failed), [f"Failed to join {each.destination[0]}: {each.error}" for each in failed]

    async def _resolve(self, address: str) -> list[Address]:
        host, port = _split(address, self._running().local_member().port)
        try:
            return [(str(ip_address(host)), port)]
        except ValueError:
            found = await asyncio.get_running_loop().getaddrinfo(host, port)
        return list(dict.fromkeys((str(target[0]), port) for *_, target in found))

    async def _rejoin(self, remembered: list[Address]) -> None:
        """Try those whom an earlier run knew, again and again as long as we are alone."""
        self._rng.shuffle(remembered)
        while not await self._rejoin_any(remembered):
            self._log.warning("none of %d remembered members could be rejoined", len(remembered))
            await asyncio.sleep(_REJOIN_INTERVAL)
            if self._running().alive_count() > 1:
                return

    async def _rejoin_any(self, remembered: list[Address]) -> bool:
        for host, port in remembered:
            exchange = self._running().rejoin((host, port))
            await run_exchange(exchange, self._metrics)
            if exchange.error is None:
                self._log.info("rejoined an earlier group: address=%s:%d", host, port)
                self._running().joined(time.monotonic())
                self._react()
                return True
            self._log.info("failed to rejoin: address=%s:%d error=%s", host, port, exchange.error)
        return False

    # --- what the agent asks ---------------------------------------------------------------------------------------------

    def _running(self) -> Serf:
        assert self._core is not None, "the membership was not started"
        return self._core

    def members(self) -> list[Member]:
        return self._running().members()

    def local_member(self) -> Member:
        return self._running().local_member()

    def stats(self) -> dict[str, str]:
        """The `serf_lan` section of `consul info`."""
        return self._running().stats()

    def counters(self) -> dict[str, int]:
        """What went wrong, by kind: bad packets, bad streams, bad exchanges, refused nodes, failed probes, stalls and so on.

        Packets are dropped when the system takes no more, or knows no way to their destination.
        """
        dropped = self._datagrams.dropped if self._datagrams is not None else 0
        return {**self._running().swim.counters, "dropped packets": dropped}

    def strangers(self) -> dict[str, str]:
        """Who spoke to us within the last minute and was not understood or taken in: IP address -> why."""
        return self._running().swim.strangers.recent(time.monotonic())

    def coordinate(self) -> Coordinate:
        return _as_record(self._running().coordinate())

    def coordinate_of(self, name: str) -> Coordinate | None:
        """Of a member which this agent has measured itself."""
        place = self._running().coordinate_of(name)
        return _as_record(place) if place is not None else None

    def update_tags(self, tags: dict[str, str]) -> None:
        """Replace our tags. Raises `TagsTooLarge`."""
        self._running().update_tags(tags, time.monotonic())
        self._react()

    def user_event(self, name: str, payload: bytes, coalesce: bool) -> None:
        """Tell every member, ourselves included. Raises `UserEventTooLarge`."""
        self._running().user_event(name, payload, coalesce, time.monotonic())
        self._react()

    def force_leave(self, name: str, prune: bool = False) -> None:
        """Declare a failed member gone; with `prune` forget it. Raises `UnknownMember`."""
        self._running().force_leave(name, prune, time.monotonic())
        self._react()

    async def install_key(self, key: bytes, *, relay_factor: int = 0) -> KeyResult:
        """Have all members accept a key. Raises `KeyRefused` for one of a wrong length, before anybody is asked.

        `relay_factor`: by way of how many other members each answer comes a second time, lest it be lost.
        """
        return await self._ask_about_keys(INSTALL, key, relay_factor)

    async def use_key(self, key: bytes, *, relay_factor: int = 0) -> KeyResult:
        """Have all members encrypt with a key."""
        return await self._ask_about_keys(USE, key, relay_factor)

    async def remove_key(self, key: bytes, *, relay_factor: int = 0) -> KeyResult:
        return await self._ask_about_keys(REMOVE, key, relay_factor)

    async def list_keys(self, *, relay_factor: int = 0) -> KeyResult:
        return await self._ask_about_keys(LIST, b"", relay_factor)

    async def _ask_about_keys(self, operation: str, key: bytes, relay_factor: int) -> KeyResult:
        answered: asyncio.Future[KeyResult] = asyncio.get_running_loop().create_future()

        def finished(result: KeyResult) -> None:
            if not answered.done():
                answered.set_result(result)

        self._running().key_operation(operation, key, finished, time.monotonic(), relay_factor=relay_factor)
        self._react()
        return await answered

    # --- the loop --------------------------------------------------------------------------------------------------------

    def _accept(self) -> ServedConnection:
        timeout = self._options.profile.tcp_timeout
        return ServedConnection(
            self._running().serve,
            self._react,
            self._connections,
            limit=_MAX_STREAMS,
            timeout=timeout,
            metrics=self._metrics,
        )

    def _packets_wait(self) -> None:
        self._receive(_BATCH)
        self._react()

    def _receive(self, limit: int) -> None:
        core = self._running()
        if self._datagrams is not None:
            for data, source in self._datagrams.receive(limit):
                core.receive_packet(data, source, time.monotonic())

    def _deadline_reached(self) -> None:
        self._alarm = None
        # Only what waited when the deadline came: a flood must not keep it from being noticed.
        self._receive(_BEFORE_DEADLINE)
        self._running().tick(time.monotonic())
        self._react()

    def _react(self) -> None:
        """Do what the core wants done."""
        core = self._running()
        if self._datagrams is None:
            return
        for packet in core.take_packets():
            if not self._datagrams.send(packet):
                core.send_failed(packet.destination, time.monotonic())
        for exchange in core.take_exchanges():
            self._spawn(self._run(exchange))
        for event in core.take_events():
            self._tell(event)
        self._notes.write(core.take_notes(), time.monotonic())
        if core.left:
            self._left.set()
        self._remember_later()
        self._set_alarm(core.deadline())

    def _set_alarm(self, deadline: float) -> None:
        if self._alarm is not None:
            if self._alarm_at == deadline:
                return
            self._alarm.cancel()
        self._alarm_at = deadline
        delay = max(0.0, deadline - time.monotonic())
        self._alarm = asyncio.get_running_loop().call_later(delay, self._deadline_reached)

    def _tell(self, event: Event) -> None:
        if self._snapshot is not None:
            self._snapshot.record(event)
        try:
            self._on_event(event)
        except Exception:
            self._log.exception("handling a gossip event failed: event=%r", event)

    def _remember_later(self) -> None:
        if self._snapshot is not None and self._flush is None:
            self._flush = asyncio.get_running_loop().call_later(_FLUSH_INTERVAL, self._remember)

    def _remember(self) -> None:
        self._flush = None
        if self._snapshot is not None:
            self._snapshot.flush(self._running().clocks())

    def _measure(self, pool: PoolMetrics) -> None:
        pool.look()
        self._look = asyncio.get_running_loop().call_later(_LOOK_INTERVAL, self._measure, pool)

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, exchange: Exchange) -> None:
        await run_exchange(exchange, self._metrics)
        if exchange.error is not None:
            self._log.debug("exchange failed: address=%s:%d error=%s", *exchange.destination, exchange.error)
        self._react()


class _Notes:
    """The core's remarks as log lines, so many in an interval and no more."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._interval_began = 0.0
        self._written = 0

    def write(self, notes: list[str], now: float) -> None:
        if now - self._interval_began >= _NOTES_INTERVAL:
            self._begin_interval(now)
        for note in notes:
            self._written += 1
            if self._written <= _NOTES_PER_INTERVAL:
                self._log.warning("%s", note)

    def _begin_interval(self, now: float) -> None:
        if self._written > _NOTES_PER_INTERVAL:
            self._log.warning("%d more gossip warnings were left out", self._written - _NOTES_PER_INTERVAL)
        self._interval_began, self._written = now, 0


def _lookup_failure(address: str, error: OSError) -> str:
    """As Go tells it."""
    host = address.partition(":")[0]
    unknown = isinstance(error, socket.gaierror) and error.errno == socket.EAI_NONAME
    return f"lookup {host}: {'no such host' if unknown else (error.strerror or str(error)).lower()}"


def _split(address: str, default_port: int) -> tuple[str, int]:
    """Host and port of what an operator wrote. Raises ValueError."""
    if address.startswith("["):
        host, _, rest = address[1:].partition("]")
        return host, int(rest.removeprefix(":") or default_port)
    if address.count(":") != 1:
        return address, default_port
    host, _, port = address.partition(":")
    return host, int(port)


def _as_record(place: Place) -> Coordinate:
    return Coordinate(vec=list(place.vec), error=place.error, adjustment=place.adjustment, height=place.height)
