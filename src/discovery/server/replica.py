"""The replica: it drives the Raft core and the state store, and owns the moment when things happen.

One turn of the event loop is one unit of work: all commands that arrived become one block and one log entry, all that must be
durable becomes one disk write, all that goes to a follower becomes one frame, all that was committed is applied in one pass
that also resolves whoever waits for it. The event loop owns all state here; only disk writes and the encoding of snapshots
run elsewhere (`log_writer`, `snapshotting`).

Time is the monotonic clock itself, not the loop's: that may stand still during a turn, and after a pause of the process a lease
would look valid that is long over.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from discovery.model import commands as c
from discovery.model.errors import DiscoveryError, NoLeader, OutcomeUnknown, RequestFailed
from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Raft, Ready, Role
from discovery.raft.errors import MalformedMessage, NotLeader, RaftError
from discovery.raft.messages import Configuration, Entry, EntryKind, InstallSnapshot, Message, SnapshotMeta, encode
from discovery.state.store import Result, StateStore
from discovery.storage.log import LogStore
from discovery.telemetry import Metrics

from .applied_entries import AppliedEntries
from .barriers import ReadBarriers
from .log_writer import LogWriter
from .proposals import Committed, Proposals, fail, nothing_committed
from .replication_meter import ReplicationMeter

APPLY_BUDGET: Final = 0.02
"""Seconds of applying after which the rest waits for the next turn, so that heartbeats and requests get theirs."""

LARGE_LOG: Final = 256 << 20
"""Bytes of applied entries in memory; four times what is kept behind a snapshot."""

Send = Callable[[str, bytes], None]
"""Id of a peer and a frame for it; never blocks, may drop."""


class Hooks(msgspec.Struct):
    """What the rest of the server does when the replica's situation changes."""

    leading: Callable[[], None] = lambda: None
    """We lead and have applied everything of earlier terms."""
    following: Callable[[], None] = lambda: None
    """We no longer lead."""
    applied: Callable[[], None] = lambda: None
    """A pass of apply is over."""
    log_large: Callable[[], None] = lambda: None
    """The log holds so many bytes that it should be cut soon, however few commands they are."""
    configured: Callable[[Configuration], None] = lambda configuration: None
    """A change of the members was committed."""
    send_snapshot: Callable[[InstallSnapshot], None] = lambda header: None
    install_snapshot: Callable[[SnapshotMeta], None] = lambda meta: None
    failed: Callable[[BaseException], None] = lambda error: None
    """The node can't go on: the disk or the state machine failed."""


class _Change(msgspec.Struct):
    """A change of the members under way: where it stands in the log, and who waits for it."""

    index: int
    term: int
    done: asyncio.Future[None]


class Replica:
    """One server's replica. Everything is called on the event loop. `address_of` gives the server address of a server id."""

    def __init__(
        self,
        *,
        raft: Raft,
        log_store: LogStore,
        writer: LogWriter,
        store: StateStore,
        send: Send,
        address_of: Callable[[str], str],
        metrics: Metrics,
        log: logging.Logger,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._raft = raft
        self._log_store = log_store
        self._writer = writer
        writer.idle = self._schedule_if_needed
        writer.failed = self._disk_failed
        self._store = store
        self._send = send
        self._address_of = address_of
        self._metrics = metrics
        self._log = log
        self._loop = loop
        self.hooks = Hooks()
        self._proposals = Proposals(loop, metrics)
        self._barriers = ReadBarriers(loop, metrics)
        self._meter = ReplicationMeter(metrics)
        self._to_apply: deque[Entry] = deque()
        self._applied = AppliedEntries()
        self._changing = asyncio.Lock()
        self._change: _Change | None = None
        self._leadership_waiters: list[asyncio.Future[None]] = []
        self._seen = self._situation()
        self._ready_term = -1
        self._announced = False
        self._ever_led = False
        self._scheduled = False
        self._stopped = False
        self._started_at = time.monotonic()
        self._replay_end = raft.last_index
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        metrics.raft_applied_index.read = lambda: float(raft.applied_index)
        metrics.raft_last_index.read = lambda: float(raft.last_index)

    def start(self) -> None:
        self._schedule()

    def stop(self) -> None:
        """Stop taking part; what waits is told that its outcome is not known."""
        self._halt(OutcomeUnknown("the server is shutting down"))

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

    @property
    def applied_index(self) -> int:
        return self._raft.applied_index

    @property
    def replaying(self) -> bool:
        """Whether what is applied comes from the log that was there at the start."""
        return self._raft.applied_index <= self._replay_end

    def follower_state(self, server_id: str) -> tuple[int, float]:
        """Leader only: the index up to which a server is known to agree, and seconds since it was heard of."""
        progress = self._raft.progress.get(server_id)
        if progress is None:
            return (self._raft.last_index, 0.0) if server_id == self.server_id else (0, math.inf)
        return progress.match, max(0.0, time.monotonic() - progress.last_contact)

    def term_at(self, index: int) -> int:
        """The term of an entry of our log, 0 where it does not reach."""
        return self._raft.term_at(index) or 0

    @property
    def stopped(self) -> bool:
        """Nothing may be served from this replica any more."""
        return self._stopped

    @property
    def is_leader(self) -> bool:
        return self._raft.role is Role.LEADER and not self._stopped

    @property
    def leader_ready(self) -> bool:
        """We lead and have applied everything of earlier terms."""
        return self._ready_term == self._raft.term and self._raft.role is Role.LEADER and not self._stopped

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
        return self._address_of(leader) if leader is not None else ""

    @property
    def is_virgin(self) -> bool:
        """No log, no snapshot, no term: this server was never part of a cluster."""
        return self._raft.term == 0 and self._raft.last_index == 0

    def lease_valid(self) -> bool:
        return self._raft.lease_valid(time.monotonic())

    def last_contact(self) -> float:
        """Seconds since we heard from the leader; 0 on the leader itself."""
        if self.is_leader:
            return 0.0
        return max(0.0, time.monotonic() - max(self._raft.leader_contact, self._started_at))

    async def leadership_changed(self, timeout: float) -> None:
        """Return when another leader is known, when we are one and ready for it, or when `timeout` seconds are over."""
        future: asyncio.Future[None] = self._loop.create_future()
        self._leadership_waiters.append(future)
        try:
            await asyncio.wait([future], timeout=timeout)
        finally:
            future.cancel()

    # --- writes and reads --------------------------------------------------------------------------------------------

    def propose(self, command: c.Command) -> "asyncio.Future[Result]":
        """The result of a command once it is applied. Raises `NoLeader`, if surely nothing happened, and `OutcomeUnknown`."""
        if self._raft.role is not Role.LEADER or self._stopped:
            raise NoLeader
        waiter = self._proposals.add(command)
        self._schedule()
        return waiter

    def read_barrier(self) -> "asyncio.Future[None]":
        """Resolves once a quorum confirmed that we led after this call and everything committed by then is applied.

        Raises `NoLeader`, also later through the future.
        """
        if self._raft.role is not Role.LEADER or self._stopped:
            raise NoLeader
        turn = self._barriers.join()
        self._schedule()
        return asyncio.shield(turn)

    # --- membership --------------------------------------------------------------------------------------------------

    def bootstrap(self, configuration: Configuration) -> None:
        """Write the first configuration of a new cluster; only on a virgin server. Raises `RequestFailed`."""
        try:
            self._raft.bootstrap(configuration)
        except RaftError as error:
            raise RequestFailed(str(error)) from None
        self._schedule()

    async def change_members(self, change: ConfigurationChange) -> None:
        """Returns once the change is committed; changes go one after the other. Raises as `propose` does."""
        async with self._changing:
            try:
                index, term = self._raft.propose_configuration(change)
            except NotLeader:
                raise NoLeader from None
            except RaftError as error:
                raise RequestFailed(str(error)) from None
            if index <= self._raft.applied_index:
                return
            future: asyncio.Future[None] = self._loop.create_future()
            self._change = _Change(index, term, future)
            self._schedule()
            await future

    async def add_server(self, server_id: str, address: str, *, voter: bool) -> None:
        """Add a server or change its address; a voter stays one."""
        kind = ChangeKind.ADD_VOTER if voter else ChangeKind.ADD_NONVOTER
        await self.change_members(ConfigurationChange(kind, server_id, address))

    async def demote_server(self, server_id: str) -> None:
        await self.change_members(ConfigurationChange(ChangeKind.DEMOTE_VOTER, server_id))

    async def remove_server(self, server_id: str) -> None:
        await self.change_members(ConfigurationChange(ChangeKind.REMOVE_SERVER, server_id))

    async def transfer_leadership(self, target: str | None = None) -> None:
        """Hand over to `target`, or to the most advanced voter; returns once we no longer lead. Raises `RequestFailed`."""
        try:
            self._raft.transfer_leadership(target, time.monotonic())
        except NotLeader:
            raise NoLeader from None
        except RaftError as error:
            raise RequestFailed(f"leadership transfer failed: {error}") from None
        term = self._raft.term
        self._schedule()
        while self.is_leader and self._raft.term == term:
            if self._raft.transfer_target is None:
                raise RequestFailed("leadership transfer timeout")
            await self.leadership_changed(0.05)

    # --- what the network says ---------------------------------------------------------------------------------------

    def receive(self, messages: Sequence[Message]) -> None:
        """Messages of a peer, in order."""
        if self._stopped:
            return
        now = time.monotonic()
        self._meter.received(messages)
        try:
            for message in messages:
                self._raft.step(message, now)
        except MalformedMessage as error:
            self._log.warning("dropped what a peer sent: %s", error)
        except Exception as error:
            self._break(error)
        self._schedule_if_needed()

    def unreachable(self, server_id: str) -> None:
        self._raft.report_unreachable(server_id)

    @property
    def leader_id(self) -> str | None:
        return self._raft.leader_id

    def gone(self, server_id: str) -> None:
        """Its process has ended, as far as can be told."""
        self._raft.report_gone(server_id, time.monotonic())
        self._schedule()

    # --- snapshots ---------------------------------------------------------------------------------------------------

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
        """Forget what a durable snapshot covers, but for the last `trailing` commands."""
        up_to = self._raft.compact(meta, self._applied.kept_behind(meta.index, trailing))
        for step in self._log_store.compaction_steps(up_to):
            self._writer.submit_later(step)

    def restart_log_after(self, meta: SnapshotMeta, done: Callable[[], None]) -> None:
        """Make the stored log begin after a snapshot, then call `done`."""
        self._writer.submit(lambda: self._log_store.reset(meta), self._guarded(done))

    # --- the turn ----------------------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if not self._scheduled and not self._stopped:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _schedule_if_needed(self) -> None:
        """Most answers of followers change nothing: another has been faster."""
        if self._raft.has_ready(write=not self._writer.busy) or self._proposals.waiting or self._seen != self._situation():
            self._schedule()

    def _turn(self) -> None:
        self._scheduled = False
        if self._stopped:
            return
        try:
            self._raft.tick(time.monotonic())
            self._proposals.propose_to(self._raft)
            self._barriers.ask(self._raft)
            self._carry_out()
            self._apply()
            self._notice_role()
        except Exception as error:
            self._break(error)
            return
        self._arm()

    def _arm(self) -> None:
        """A timer that comes too early is left: it costs less than another one each turn, of which most move the deadline on."""
        deadline = self._raft.deadline()
        if self._timer is not None:
            if self._timer_at <= deadline:
                return
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_at(deadline, self._due) if deadline < math.inf else None

    def _due(self) -> None:
        self._timer = None
        self._turn()

    def _carry_out(self) -> None:
        while (ready := self._ready()) is not None:
            self._send_all(ready.messages)
            self._persist(ready)
            if ready.install_snapshot is not None:
                # It covers whatever waits to be applied.
                self._to_apply.clear()
                self._applied.clear()
                self._fail_waiting(OutcomeUnknown())
                self.hooks.install_snapshot(ready.install_snapshot)
            for header in ready.snapshots_to_send:
                self.hooks.send_snapshot(header)
            self._barriers.take(ready)
            self._to_apply.extend(ready.committed)

    def _ready(self) -> Ready | None:
        write = not self._writer.busy
        return self._raft.ready(write=write) if self._raft.has_ready(write=write) else None

    def _persist(self, ready: Ready) -> None:
        if ready.write_id is None:
            return
        write_id, promises = ready.write_id, ready.messages_after_persist
        if not ready.must_sync:
            # Nothing else is being written, or Raft would not have been told to write.
            self._persisted(write_id, promises)
            return
        entries, hard_state, started = ready.entries, ready.hard_state, time.monotonic()

        def persisted() -> None:
            if self.is_leader:
                self._metrics.raft_leader_dispatch_log.observe(time.monotonic() - started)
                self._metrics.raft_leader_dispatch_num_logs.set(len(entries))
            self._persisted(write_id, promises)

        self._writer.submit(lambda: self._log_store.append(entries, hard_state), self._guarded(persisted))

    def _persisted(self, write_id: int, promises: Sequence[Message]) -> None:
        self._raft.persisted(write_id)
        self._send_all(promises)

    def _send_all(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        self._meter.sent(messages)
        by_peer: dict[str, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.target, []).append(message)
        for peer, batch in by_peer.items():
            self._send(peer, encode(batch))

    # --- applying ----------------------------------------------------------------------------------------------------

    def _apply(self) -> None:
        """Apply what was committed, for as long as the budget lasts."""
        if self._to_apply:
            started = time.monotonic()
            last = self._apply_entries(started + APPLY_BUDGET)
            self._raft.applied(last)
            self._metrics.raft_fsm_apply.observe(time.monotonic() - started)
            self._resolve_change(last)
            self.hooks.applied()
            if self._applied.size >= LARGE_LOG:
                self.hooks.log_large()
            if self._to_apply or self._proposals.waiting:
                self._schedule()
        self._barriers.applied(self._raft.applied_index)

    def _apply_entries(self, deadline: float) -> int:
        """Returns the index reached; what was there at the start and what is new are never one pass."""
        count = 0
        while True:
            entry = self._to_apply.popleft()
            count += 1
            self._apply_entry(entry)
            if not self._to_apply or entry.index == self._replay_end or time.monotonic() >= deadline:
                self._metrics.raft_commit_num_logs.set(count)
                return entry.index

    def _apply_entry(self, entry: Entry) -> None:
        if entry.kind is EntryKind.COMMAND:
            results = self._store.apply(c.decode_block(entry.data))
            self._applied.add(entry.index, len(results), len(entry.data))
            self._proposals.applied(entry, results)
        elif entry.kind is EntryKind.CONFIGURATION:
            self.hooks.configured(self._raft.configuration)
        elif self.is_leader and entry.term == self._raft.term:
            self._ready_term = entry.term

    def _resolve_change(self, applied: int) -> None:
        if self._change is not None and self._change.index <= applied:
            done, self._change = self._change.done, None
            if not done.done():
                done.set_result(None)

    # --- changes of role ---------------------------------------------------------------------------------------------

    def _situation(self) -> tuple[Role, int, str | None]:
        return self._raft.role, self._raft.term, self._raft.leader_id

    def _notice_role(self) -> None:
        now = self._situation()
        if now != self._seen:
            was, self._seen = self._seen, now
            self._role_changed(was, now)
        if self.leader_ready and not self._announced:
            self._announced = True
            self._wake_leadership_waiters()
            self.hooks.leading()

    def _role_changed(self, was: tuple[Role, int, str | None], now: tuple[Role, int, str | None]) -> None:
        role, term, leader = now
        self._ever_led = self._ever_led or leader is not None
        if was[0] is Role.LEADER and (role is not Role.LEADER or term != was[1]):
            self._step_down()
        if role is not was[0]:
            self._count_role(role)
        if role is Role.LEADER and was[:2] != now[:2]:
            self._metrics.raft_leader_elections.inc()
            self._log.info("cluster leadership acquired: term=%d", term)
        elif leader != was[2]:
            self._log.info("leader is now: leader=%s term=%d", leader or "unknown", term)
        self._wake_leadership_waiters()

    def _wake_leadership_waiters(self) -> None:
        waiters, self._leadership_waiters = self._leadership_waiters, []
        for future in waiters:
            if not future.done():
                future.set_result(None)

    def _count_role(self, role: Role) -> None:
        if role is Role.LEADER:
            self._metrics.raft_state_leader.inc()
        elif role is Role.FOLLOWER:
            self._metrics.raft_state_follower.inc()
        elif role is Role.PRE_CANDIDATE:
            self._metrics.raft_heartbeat_timeout.inc()
        else:
            self._metrics.raft_state_candidate.inc()

    def _step_down(self) -> None:
        self._log.info("cluster leadership lost")
        self._announced = False
        self._fail_waiting(OutcomeUnknown(), self._is_committed)
        self.hooks.following()

    def _is_committed(self, index: int, term: int) -> bool:
        return index <= self._raft.commit_index and self._raft.term_at(index) == term

    def _fail_waiting(self, error: DiscoveryError, committed: Committed = nothing_committed) -> None:
        """What was not proposed surely did not happen; what was may still, and what is `committed` will be told when it has."""
        self._proposals.fail(error, committed)
        self._barriers.fail()
        if self._change is not None and not committed(self._change.index, self._change.term):
            fail(self._change.done, error)
            self._change = None

    # --- the end -----------------------------------------------------------------------------------------------------

    def _guarded(self, action: Callable[[], None]) -> Callable[[], None]:
        """`action` for the writer to call: not any more once we have stopped, and its failure ends this node."""

        def run() -> None:
            if not self._stopped:
                try:
                    action()
                except Exception as error:
                    self._break(error)

        return run

    def _halt(self, told: DiscoveryError) -> None:
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
        self._fail_waiting(told)

    def _break(self, error: Exception) -> None:
        """A state that was half applied, or a broken promise of the protocol, must not be served, nor spread."""
        if not self._stopped:
            self._log.critical("the replica stops: %s", error, exc_info=error)
            self._halt(OutcomeUnknown("the server failed"))
            self.hooks.failed(error)

    def _disk_failed(self, error: BaseException) -> None:
        if not self._stopped:
            self._log.critical("the log can't be written, this server stops: %s", error)
            self._halt(OutcomeUnknown("the server's disk failed"))
            self.hooks.failed(error)

    # --- for operators -----------------------------------------------------------------------------------------------

    def stats(self) -> Mapping[str, Any]:
        """The `raft` section of `consul info`."""
        raft = self._raft
        contact = "0" if self.is_leader else f"{self.last_contact() * 1000:.3f}ms" if self._ever_led else "never"
        others = [server for server in raft.configuration.servers if server.voter and server.id != self.server_id]
        members = " ".join(
            f"{{Suffrage:{'Voter' if server.voter else 'Nonvoter'} ID:{server.id} Address:{server.address}}}"
            for server in raft.configuration.servers
        )
        return {
            "applied_index": str(raft.applied_index),
            "commit_index": str(raft.commit_index),
            "fsm_pending": str(max(0, raft.commit_index - raft.applied_index)),
            "last_contact": contact,
            "last_log_index": str(raft.last_index),
            "last_log_term": str(raft.last_term),
            "last_snapshot_index": str(raft.snapshot.index if raft.snapshot else 0),
            "last_snapshot_term": str(raft.snapshot.term if raft.snapshot else 0),
            "latest_configuration": f"[{members}]",
            "latest_configuration_index": str(raft.configuration_index),
            "num_peers": str(len(others)),
            "protocol_version": "3",
            "protocol_version_max": "3",
            "protocol_version_min": "0",
            "snapshot_version_max": "1",
            "snapshot_version_min": "0",
            "state": "Candidate" if raft.role is Role.PRE_CANDIDATE else raft.role.name.capitalize(),
            "term": str(raft.term),
        }
