"""The replica: it drives the Raft core and the state store, and owns the moment when things happen.

One turn of the event loop is one unit of work: all commands that arrived become one block and one log entry, all that must be
durable becomes one disk write, all that goes to a follower becomes one frame, all that was committed is applied in one pass
that also resolves whoever waits for it. The event loop owns all state here; only disk writes and the encoding of snapshots
run elsewhere (`log_writer`, `snapshotting`).
"""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from discovery.model import commands as c
from discovery.model.errors import NoLeader, OutcomeUnknown, RequestFailed
from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Raft, Ready, Role
from discovery.raft.errors import MalformedMessage, NotLeader, ProposalRefused, RaftError
from discovery.raft.messages import Configuration, Entry, EntryKind, InstallSnapshot, Message, Server, SnapshotMeta, encode
from discovery.state.store import Result, StateStore
from discovery.storage.log import LogStore
from discovery.telemetry import Metrics

from .log_writer import LogWriter

MAX_BLOCK_COMMANDS: Final = 1024
MAX_BLOCKS_IN_FLIGHT: Final = 2
"""More would make smaller blocks, each with the cost of a whole one."""

Send = Callable[[str, bytes], None]
"""Address of a peer and a frame for it; never blocks, may drop."""


class Hooks(msgspec.Struct):
    """What the rest of the server does when the replica's situation changes."""

    leading: Callable[[], None] = lambda: None
    """We lead and have applied everything of earlier terms."""
    following: Callable[[], None] = lambda: None
    """We no longer lead."""
    applied: Callable[[], None] = lambda: None
    """A pass of apply is over."""
    send_snapshot: Callable[[InstallSnapshot], None] = lambda header: None
    install_snapshot: Callable[[SnapshotMeta], None] = lambda meta: None
    failed: Callable[[BaseException], None] = lambda error: None
    """The node can't go on: the disk or the state machine failed."""


class Replica:
    """One server's replica. Everything is called on the event loop."""

    def __init__(
        self,
        *,
        raft: Raft,
        log_store: LogStore,
        writer: LogWriter,
        store: StateStore,
        send: Send,
        address: str,
        metrics: Metrics,
        log: logging.Logger,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._raft = raft
        self._log_store = log_store
        self._writer = writer
        writer.idle = self._schedule
        writer.failed = self._disk_failed
        self._store = store
        self._send = send
        self._address = address
        self.seen_at: dict[str, str] = {}
        """Server id -> address, as gossip last saw it: servers are known by id and may move."""
        self._metrics = metrics
        self._log = log
        self._loop = loop
        self.hooks = Hooks()
        self._pending: list[tuple[c.Command, asyncio.Future[Result]]] = []
        self._in_flight: dict[int, tuple[int, float, list[asyncio.Future[Result]]]] = {}
        self._read_turn: asyncio.Future[None] | None = None
        self._reads: dict[int, asyncio.Future[None]] = {}
        self._released: list[tuple[int, asyncio.Future[None]]] = []
        self._changes: list[tuple[int, asyncio.Future[None]]] = []
        self._leadership_waiters: list[asyncio.Future[None]] = []
        self._seen: tuple[Role, int, str | None] = (raft.role, raft.term, raft.leader_id)
        self._ready_term = -1
        self._announced = False
        self._ever_led = False
        self._scheduled = False
        self._stopped = False
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._schedule()

    def stop(self) -> None:
        """Stop taking part; what waits is told that its outcome is not known."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiting(OutcomeUnknown("the server is shutting down"))

    # --- what we are -------------------------------------------------------------------------------------------------

    @property
    def server_id(self) -> str:
        return self._raft.server_id

    @property
    def configuration(self) -> Configuration:
        return self._raft.configuration

    @property
    def configuration_index(self) -> int:
        return self._raft.configuration_index

    @property
    def term(self) -> int:
        return self._raft.term

    @property
    def last_index(self) -> int:
        return self._raft.last_index

    def follower_state(self, server_id: str) -> tuple[int, float]:
        """Leader only: the index up to which a server is known to agree, and seconds since it was heard of."""
        progress = self._raft.progress.get(server_id)
        if progress is None:
            return self._raft.last_index, 0.0
        return progress.match, max(0.0, self._loop.time() - progress.last_contact)

    @property
    def is_leader(self) -> bool:
        return self._raft.role is Role.LEADER

    @property
    def leader_ready(self) -> bool:
        """We lead and have applied everything of earlier terms."""
        return self._ready_term == self._raft.term and self._raft.role is Role.LEADER

    @property
    def known_leader(self) -> bool:
        return self._raft.leader_id is not None

    @property
    def never_had_leader(self) -> bool:
        return not self._ever_led

    @property
    def leader_address(self) -> str:
        """The server address of the leader, empty if none is known."""
        leader = self._raft.leader_id
        return "" if leader is None else self.address_of(leader)

    def address_of(self, server_id: str) -> str:
        """Where a server is: as gossip last saw it, else as the configuration says; empty if neither knows it."""
        if server_id == self.server_id:
            return self._address
        server = self._raft.configuration.get(server_id)
        return self.seen_at.get(server_id) or (server.address if server is not None else "")

    @property
    def is_virgin(self) -> bool:
        """No log, no snapshot, no term: this server was never part of a cluster."""
        return self._raft.term == 0 and self._raft.last_index == 0

    def lease_valid(self) -> bool:
        return self._raft.lease_valid(self._loop.time())

    def last_contact(self) -> float:
        """Seconds since we heard from the leader; 0 on the leader itself."""
        if self.is_leader:
            return 0.0
        return max(0.0, self._loop.time() - self._raft.leader_contact)

    async def leadership_changed(self, timeout: float) -> None:
        """Return when another leader is known or `timeout` seconds are over."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._leadership_waiters.append(future)
        await asyncio.wait([future], timeout=timeout)
        future.cancel()

    # --- writes ------------------------------------------------------------------------------------------------------

    def propose(self, command: c.Command) -> "asyncio.Future[Result]":
        """The result of a command once it is applied. Raises `NoLeader`, if surely nothing happened, and `OutcomeUnknown`."""
        if self._raft.role is not Role.LEADER or self._stopped:
            raise NoLeader
        future: asyncio.Future[Result] = self._loop.create_future()
        self._pending.append((command, future))
        self._schedule()
        return future

    def _propose_blocks(self) -> None:
        """Make blocks of what waits. While enough blocks are under way the next one gathers more."""
        while self._pending and len(self._in_flight) < MAX_BLOCKS_IN_FLIGHT:
            batch = self._pending[:MAX_BLOCK_COMMANDS]
            try:
                index, term = self._raft.propose(c.encode_block([command for command, _ in batch]))
            except NotLeader:
                self._fail_pending(NoLeader())
                return
            except ProposalRefused as refusal:
                if not self._in_flight:
                    self._fail_pending(RequestFailed(str(refusal)))
                return
            del self._pending[: len(batch)]
            self._in_flight[index] = (term, self._loop.time(), [future for _, future in batch])

    # --- reads -------------------------------------------------------------------------------------------------------

    def read_barrier(self) -> "asyncio.Future[None]":
        """Resolves once a quorum confirmed that we led after this call and everything committed by then is applied.

        All that ask in one turn of the loop share a round. Raises `NoLeader`, also later through the future.
        """
        if self._raft.role is not Role.LEADER:
            raise NoLeader
        if self._read_turn is None:
            self._read_turn = self._loop.create_future()
            self._schedule()
        return asyncio.shield(self._read_turn)

    def _ask_quorum(self) -> None:
        if self._read_turn is None:
            return
        turn, self._read_turn = self._read_turn, None
        try:
            self._reads[self._raft.read_index(self._loop.time())] = turn
        except RaftError:
            _fail(turn, NoLeader())

    def _release_reads(self, ready: Ready) -> None:
        for token, index in ready.reads:
            future = self._reads.pop(token, None)
            if future is not None:
                self._released.append((index, future))
        for token in ready.reads_failed:
            future = self._reads.pop(token, None)
            if future is not None:
                _fail(future, NoLeader())

    # --- membership --------------------------------------------------------------------------------------------------

    def bootstrap(self, configuration: Configuration) -> None:
        """Write the first configuration of a new cluster; only on a virgin server."""
        self._raft.bootstrap(configuration)
        self._schedule()

    async def add_server(self, server: Server) -> None:
        kind = ChangeKind.ADD_VOTER if server.voter else ChangeKind.ADD_NONVOTER
        await self._change(ConfigurationChange(kind, server.id, server.address))

    async def remove_server(self, server_id: str) -> None:
        await self._change(ConfigurationChange(ChangeKind.REMOVE_SERVER, server_id))

    async def _change(self, change: ConfigurationChange) -> None:
        future: asyncio.Future[None] = self._loop.create_future()
        try:
            index, _ = self._raft.propose_configuration(change)
        except NotLeader:
            raise NoLeader from None
        except RaftError as error:
            raise RequestFailed(str(error)) from None
        self._changes.append((index, future))
        self._schedule()
        await future

    def transfer_leadership(self, target: str) -> None:
        self._raft.transfer_leadership(target, self._loop.time())
        self._schedule()

    # --- what the network says ---------------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """Messages of a peer, in order."""
        if self._stopped:
            return
        now = self._loop.time()
        try:
            for message in messages:
                self._raft.step(message, now)
        except MalformedMessage as error:
            self._log.warning("dropped what a peer sent: %s", error)
        self._schedule()

    def unreachable(self, server_id: str) -> None:
        self._raft.report_unreachable(server_id)

    def snapshot_sent(self, server_id: str, succeeded: bool) -> None:
        self._raft.report_snapshot(server_id, succeeded)
        self._schedule()

    def snapshot_installed(self, meta: SnapshotMeta) -> None:
        """The state was replaced by a snapshot and the log begins after it."""
        self._raft.snapshot_installed(meta)
        self._schedule()

    def describe_snapshot(self) -> SnapshotMeta:
        """The meta data of a snapshot taken now, but for size and checksum."""
        return self._raft.describe_snapshot(self._raft.applied_index)

    def compact(self, meta: SnapshotMeta, trailing: int) -> None:
        """Forget what a durable snapshot covers, but for `trailing` entries."""
        up_to = self._raft.compact(meta, trailing)
        self._writer.submit(lambda: self._log_store.compact(up_to), lambda: None)

    def restart_log_after(self, meta: SnapshotMeta, done: Callable[[], None]) -> None:
        """Make the stored log begin after a snapshot, then call `done`."""
        self._writer.submit(lambda: self._log_store.reset(meta), done)

    # --- the turn ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        try:
            self._raft.tick(self._loop.time())
            self._propose_blocks()
            self._ask_quorum()
            self._carry_out()
            self._notice_role()
        except Exception as error:
            # State that was half applied must not be served, nor served to others.
            self._log.exception("the replica stops")
            self._stopped = True
            self.hooks.failed(error)
            return
        self._arm()

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._raft.deadline()
        self._timer = self._loop.call_at(deadline, self._turn) if deadline < math.inf else None

    def _carry_out(self) -> None:
        while (ready := self._raft.ready(write=not self._writer.busy)) is not None:
            self._send_all(ready.messages)
            self._persist(ready)
            if ready.install_snapshot is not None:
                self.hooks.install_snapshot(ready.install_snapshot)
            for header in ready.snapshots_to_send:
                self.hooks.send_snapshot(header)
            self._release_reads(ready)
            self._apply(ready.committed)
            self._resolve_reads()

    def _persist(self, ready: Ready) -> None:
        if ready.write_id is None:
            return
        write_id, promises = ready.write_id, ready.messages_after_persist
        if ready.must_sync:
            entries, hard_state = ready.entries, ready.hard_state
            self._writer.submit(lambda: self._log_store.append(entries, hard_state), lambda: self._persisted(write_id, promises))
        else:
            self._persisted(write_id, promises)

    def _persisted(self, write_id: int, promises: Sequence[Message]) -> None:
        if not self._stopped:
            self._raft.persisted(write_id)
            self._send_all(promises)

    def _disk_failed(self, error: BaseException) -> None:
        self._log.critical("the log can't be written, this server stops: %s", error)
        self._stopped = True
        self._fail_waiting(OutcomeUnknown("the server's disk failed"))
        self.hooks.failed(error)

    def _send_all(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        by_peer: dict[str, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.target, []).append(message)
        for peer, batch in by_peer.items():
            address = self.address_of(peer)
            if address:
                self._send(address, encode(batch))

    def _apply(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        for entry in entries:
            if entry.kind is EntryKind.COMMAND:
                self._apply_block(entry)
            elif entry.kind is EntryKind.NOOP and self.is_leader and entry.term == self._raft.term:
                self._ready_term = entry.term
        last = entries[-1].index
        self._raft.applied(last)
        self._changes = [(index, future) for index, future in self._changes if not _done_by(last, index, future)]
        self.hooks.applied()
        if self._pending:
            self._schedule()

    def _apply_block(self, entry: Entry) -> None:
        results = self._store.apply(c.decode_block(entry.data))
        waiting = self._in_flight.pop(entry.index, None)
        if waiting is None:
            return
        term, started, futures = waiting
        if term != entry.term:
            for future in futures:
                _fail(future, OutcomeUnknown())
            return
        self._metrics.raft_commit_duration.observe(self._loop.time() - started)
        for future, result in zip(futures, results, strict=True):
            if not future.done():
                future.set_result(result)

    def _resolve_reads(self) -> None:
        if not self._released:
            return
        applied = self._raft.applied_index
        waiting = []
        for index, future in self._released:
            if index <= applied:
                if not future.done():
                    future.set_result(None)
            else:
                waiting.append((index, future))
        self._released = waiting

    # --- changes of role ---------------------------------------------------------------------------------------------

    def _notice_role(self) -> None:
        now = (self._raft.role, self._raft.term, self._raft.leader_id)
        if now != self._seen:
            was, self._seen = self._seen, now
            self._role_changed(was, now)
        if self.leader_ready and not self._announced:
            self._announced = True
            self.hooks.leading()

    def _role_changed(self, was: tuple[Role, int, str | None], now: tuple[Role, int, str | None]) -> None:
        role, term, leader = now
        self._ever_led = self._ever_led or leader is not None
        if was[0] is Role.LEADER and (role is not Role.LEADER or term != was[1]):
            self._step_down()
        if role is Role.LEADER and was[:2] != now[:2]:
            self._metrics.raft_leader_elections.inc()
            self._log.info("cluster leadership acquired: term=%d", term)
        elif leader != was[2]:
            self._log.info("leader is now: leader=%s term=%d", leader or "unknown", term)
        waiters, self._leadership_waiters = self._leadership_waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _step_down(self) -> None:
        self._log.info("cluster leadership lost")
        self._announced = False
        self._fail_waiting(OutcomeUnknown())
        self.hooks.following()

    def _fail_pending(self, error: Exception) -> None:
        pending, self._pending = self._pending, []
        for _, future in pending:
            _fail(future, error)

    def _fail_waiting(self, error: OutcomeUnknown) -> None:
        """What was not proposed surely did not happen; what was may still."""
        self._fail_pending(NoLeader())
        in_flight, self._in_flight = self._in_flight, {}
        for _, _, futures in in_flight.values():
            for future in futures:
                _fail(future, error)
        for index, future in self._changes:
            del index
            _fail(future, error)
        self._changes = []
        reads = [*self._reads.values(), *(future for _, future in self._released)]
        if self._read_turn is not None:
            reads.append(self._read_turn)
        self._reads, self._released, self._read_turn = {}, [], None
        for future in reads:
            _fail(future, NoLeader())

    # --- for operators -----------------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """The `raft` section of `consul info`."""
        raft = self._raft
        contact = "0" if self.is_leader else f"{self.last_contact() * 1000:.3f}ms" if self._ever_led else "never"
        others = [server for server in raft.configuration.servers if server.voter and server.id != self.server_id]
        return {
            "applied_index": str(raft.applied_index),
            "commit_index": str(raft.commit_index),
            "fsm_pending": str(max(0, raft.commit_index - raft.applied_index)),
            "last_contact": contact,
            "last_log_index": str(raft.last_index),
            "last_log_term": str(raft.last_term),
            "last_snapshot_index": str(raft.snapshot.index if raft.snapshot else 0),
            "last_snapshot_term": str(raft.snapshot.term if raft.snapshot else 0),
            "latest_configuration": str(
                [{"ID": server.id, "Address": server.address, "Voter": server.voter} for server in raft.configuration.servers]
            ),
            "latest_configuration_index": str(raft.configuration_index),
            "num_peers": str(len(others)),
            "protocol_version": "3",
            "protocol_version_max": "3",
            "protocol_version_min": "0",
            "snapshot_version_max": "1",
            "snapshot_version_min": "0",
            "state": raft.role.name.capitalize(),
            "term": str(raft.term),
        }


def _fail(future: "asyncio.Future[Any]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
        # Whoever asked may be gone; an error that nobody collects is no fault.
        future.exception()


def _done_by(applied: int, index: int, future: "asyncio.Future[None]") -> bool:
    if index > applied:
        return False
    if not future.done():
        future.set_result(None)
    return True
