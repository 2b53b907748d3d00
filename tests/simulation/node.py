"""The shell of one simulated server: what the real one does with sockets, threads and files, done with events."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from discovery.model import commands as c
from discovery.raft.configuration import ConfigurationChange
from discovery.raft.core import Raft, Ready, Role
from discovery.raft.errors import ConfigurationRefused, NotLeader, ProposalRefused, TransferRefused
from discovery.raft.messages import (
    Configuration,
    Entry,
    EntryKind,
    InstallSnapshot,
    Message,
    SnapshotMeta,
    SnapshotProgress,
    decode,
    decode_configuration,
    encode,
)
from discovery.storage.recovery import recover
from tests.simulation.client import REFUSED
from tests.simulation.disk import Disk
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.world import World

Answer = Callable[[object], None]

ROUNDING = 1e-6
"""Added to the time of a tick, so that it is surely due by the server's own clock."""


class Node:
    """`disk` outlives a crash; everything else belongs to one life."""

    raft: Raft
    machine: Machine

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.world = world
        self.name = name
        self.disk = disk
        self.rng = random.Random(f"{world.seed}/{name}")
        self.clock_rate = 1 + self.rng.uniform(-world.swarm.clock_skew, world.swarm.clock_skew)
        self.life = 0
        self.up = False
        self.paused_until = 0.0
        self._wake_lag = 0.0
        self.disk_stuck_until = 0.0

    # life and death

    def start(self) -> None:
        self.life += 1
        self.up = True
        self._disk_busy = False
        self._next_tick = math.inf
        self._requests: list[tuple[c.Command, Answer]] = []
        self._waiting: dict[int, tuple[int, list[Answer]]] = {}
        self._reads: dict[int, tuple[str, Answer]] = {}
        self._confirmed: list[tuple[int, str, Answer]] = []
        self._to_apply: deque[Entry] = deque()
        self._applying = False
        self._snapshot_running = False
        self._installing = False
        self._was_leader = False
        recovered = recover(self.disk, self.disk)  # type: ignore[arg-type]
        self.machine = Machine()
        if recovered.snapshot is not None:
            self.world.counters["starts from a snapshot"] += 1
            self.machine.restore(self.disk.snapshots[recovered.snapshot.index][1])
        self.raft = Raft(
            server_id=self.name,
            options=self.world.swarm.options,
            hard_state=recovered.hard_state,
            snapshot=recovered.snapshot,
            entries=recovered.entries,
            rng=self.rng,
            now=self.now(),
        )
        self.world.invariants.on_start(self)
        self.pump()

    def bootstrap(self, configuration: Configuration) -> None:
        self.raft.bootstrap(configuration)
        self.pump()

    def crash(self) -> None:
        self.up = False
        self.life += 1
        self.disk.crash(self.world.rng)

    def now(self) -> float:
        """This server's own monotonic clock."""
        return self.world.time * self.clock_rate

    def pause(self, seconds: float) -> None:
        """The process stands still. Waking up, it may serve a client before it looks at its peers and its timers."""
        self.paused_until = max(self.paused_until, self.world.time + seconds)
        self._wake_lag = self.world.rng.uniform(0, 0.05)

    def later(self, delay: float, action: Callable[[], None], *, for_client: bool = False) -> None:
        """Runs `action` unless this life has ended by then; what comes due during a pause waits for its end."""
        life = self.life

        def run() -> None:
            if self.life != life:
                return
            if self.world.time < self.paused_until:
                self.world.at(self.paused_until + (0 if for_client else self._wake_lag), run)
            else:
                action()

        self.world.at(self.world.time + delay, run)

    # what comes in

    def receive(self, frame: bytes) -> None:
        for message in decode(frame):
            self.raft.step(message, self.now())
        self.pump()

    def lost_touch(self, peer: str) -> None:
        self.raft.report_unreachable(peer)
        self.pump()

    def told_gone(self, peer: str) -> None:
        before = self.raft.deadline()
        self.raft.report_gone(peer, self.now())
        self.world.counters["leaders known to be gone"] += self.raft.deadline() < before
        self.pump()

    def request(self, command: c.Command, answer: Answer) -> None:
        """What arrives within a turn of the loop becomes one block."""
        self._requests.append((command, answer))
        if len(self._requests) == 1:
            self.later(self.world.swarm.turn, self.pump)

    def read(self, key: str, answer: Answer) -> None:
        """A linearizable read: by the lease where it holds, else by ReadIndex."""
        if self.world.swarm.lease_reads and self.raft.lease_valid(self.now()):
            self.world.counters["lease reads"] += 1
            answer(self.machine.read(key))
            return
        try:
            self._reads[self.raft.read_index(self.now())] = (key, answer)
        except NotLeader:
            answer(REFUSED)
            return
        self.pump()

    def change_members(self, change: ConfigurationChange) -> None:
        try:
            self.raft.propose_configuration(change)
        except (NotLeader, ProposalRefused, ConfigurationRefused):
            return
        self.world.counters["member changes"] += 1
        self.pump()

    def transfer(self, target: str | None) -> None:
        try:
            self.raft.transfer_leadership(target, self.now())
        except (NotLeader, TransferRefused):
            return
        self.world.counters["transfers"] += 1
        self.pump()

    def tick(self) -> None:
        if self._next_tick <= self.world.time:
            self._next_tick = math.inf
            self.raft.tick(self.now())
            self.pump()

    # what goes out

    def pump(self) -> None:
        """One turn: takes everything the core wants done, until it wants nothing more."""
        assert self.up, f"{self.name} is dead, and yet does something"
        self._propose()
        while (ready := self._ready()) is not None:
            self._handle(ready)
        is_leader = self.raft.role is Role.LEADER
        if is_leader and not self._was_leader:
            self.world.trace(f"{self.name} leads term {self.raft.term}")
            self.world.counters["elections"] += 1
            self.world.invariants.on_elected(self)
        self._was_leader = is_leader
        self.world.invariants.on_event(self)
        self._schedule_tick()

    def _schedule_tick(self) -> None:
        deadline = self.raft.deadline()
        if deadline == math.inf:
            return
        due = max(deadline / self.clock_rate, self.world.time) + ROUNDING
        if due < self._next_tick:
            self._next_tick = due
            self.later(due - self.world.time, self.tick)

    def _propose(self) -> None:
        requests, self._requests = self._requests, []
        if not requests:
            return
        try:
            index, term = self.raft.propose(c.encode_block([command for command, _ in requests]))
        except (NotLeader, ProposalRefused):
            for _, answer in requests:
                answer(REFUSED)
        else:
            self._waiting[index] = (term, [answer for _, answer in requests])

    def _ready(self) -> Ready | None:
        write = self.world.swarm.overlapping_writes or not self._disk_busy
        expected = self.raft.has_ready(write=write)
        ready = self.raft.ready(write=write)
        assert ready is None or expected, f"{self.raft!r} had something to do and did not say so"
        return ready

    def _handle(self, ready: Ready) -> None:
        if ready.committed:
            self.world.invariants.on_event(self)
        self.world.network.send(self.name, ready.messages)
        if ready.write_id is not None:
            self._write(ready, ready.write_id)
        for token in ready.reads_failed:
            self._reads.pop(token)[1](REFUSED)
        self._confirmed += [(index, *self._reads.pop(token)) for token, index in ready.reads]
        self._to_apply += ready.committed
        self._apply()
        self._answer_reads()
        for header in ready.snapshots_to_send:
            self._stream(header)
        if ready.install_snapshot is not None:
            self._install(ready.install_snapshot)

    def _write(self, ready: Ready, write_id: int) -> None:
        if ready.entries:
            prev_term = self.raft.term_at(ready.entries[0].index - 1)
            assert prev_term is not None
            self.world.invariants.on_write(self, prev_term, ready.entries)
        life, mutant = self.life, self.world.mutant
        self._promise([message for message in ready.messages_after_persist if mutant.leaves_early(message)])

        def done() -> None:
            if self.life == life:
                self.raft.persisted(write_id)
                self._promise([message for message in ready.messages_after_persist if not mutant.leaves_early(message)])

        self.disk.append(ready.entries, mutant.stored_hard_state(ready.hard_state), done)
        self._run_disk()

    def _promise(self, messages: list[Message]) -> None:
        for message in messages:
            self.world.invariants.on_promise(self, message)
        self.world.network.send(self.name, messages)

    def _run_disk(self) -> None:
        if not self._disk_busy and self.disk.has_work:
            self._disk_busy = True
            stuck = max(0.0, self.disk_stuck_until - self.world.time)
            self.later(stuck + self.world.swarm.fsync_time(self.world.rng, calm=self.world.calm), self._disk_done)

    def _disk_done(self) -> None:
        self._disk_busy = False
        self.disk.finish_one()()
        self._run_disk()
        self.pump()

    # applying

    def _apply(self) -> None:
        """All at once, or in small pages with other events in between."""
        page = self.world.swarm.apply_page
        if not self._to_apply or self._applying:
            return
        for _ in range(min(page or len(self._to_apply), len(self._to_apply))):
            self._apply_entry(self._to_apply.popleft())
        self.raft.applied(self.machine.applied)
        self._maybe_snapshot()
        if self._to_apply:
            self._applying = True
            self.later(0.003, self._apply_more)

    def _apply_more(self) -> None:
        self._applying = False
        self._apply()
        self._answer_reads()
        self.pump()

    def _apply_entry(self, entry: Entry) -> None:
        results = self.machine.apply(entry)
        self.world.invariants.on_applied(self)
        if entry.kind is EntryKind.CONFIGURATION:
            self.world.invariants.on_configuration_applied(entry.index, decode_configuration(entry.data))
        term, answers = self._waiting.pop(entry.index, (0, []))
        for number, answer in enumerate(answers):
            answer(results[number] if term == entry.term else REFUSED)

    def _answer_reads(self) -> None:
        waiting, self._confirmed = self._confirmed, []
        for index, key, answer in waiting:
            if self.machine.applied >= index:
                answer(self.machine.read(key))
            else:
                self._confirmed.append((index, key, answer))

    # snapshots

    def _maybe_snapshot(self) -> None:
        start = self.raft.snapshot.index if self.raft.snapshot else 0
        due = self.machine.applied - start >= self.world.swarm.snapshot_threshold
        if not due or self._snapshot_running or self._installing:
            return
        self._snapshot_running = True
        meta, image = self.raft.describe_snapshot(self.machine.applied), self.machine.snapshot()
        self.world.invariants.on_snapshot(self, meta, image)
        save_time = self.world.rng.expovariate(10)
        if self.world.mutant.compacts_before_saving:
            self._compact(meta)
        self.later(save_time, lambda: self._snapshot_saved(meta, image))

    def _snapshot_saved(self, meta: SnapshotMeta, image: bytes) -> None:
        self._snapshot_running = False
        self.world.counters["snapshots taken"] += 1
        self.disk.save(meta, image)
        self._compact(meta)
        self.pump()

    def _compact(self, meta: SnapshotMeta) -> None:
        self.disk.compact(self.raft.compact(meta, self.world.swarm.trailing))
        self._run_disk()

    def _stream(self, header: InstallSnapshot) -> None:
        """Sends a few signs of progress, then the whole; a stream may break anywhere, also after its end was received."""
        world, target = self.world, self.world.nodes[header.target]
        if header.meta.index not in self.disk.snapshots:
            self.later(0.01, lambda: self._stream_ended(header.target, ok=False))
            return
        image = self.disk.snapshots[header.meta.index][1]
        progress = SnapshotProgress(header.sender, header.target, header.term)
        chunks, life = world.rng.randint(1, 4), self.life

        def ended(*, ok: bool) -> None:
            """The receiver may say so when the sender is dead."""
            if self.life == life:
                self.later(0.01, lambda: self._stream_ended(header.target, ok=ok))

        def breaks() -> bool:
            unlucky = not world.calm and world.rng.random() < 0.1
            return unlucky or not target.up or not world.network.passes(self.name, header.target)

        def step(number: int) -> None:
            if breaks():
                ended(ok=False)
            elif number < chunks:
                target.later(0, lambda: target.receive(encode([progress])))
                self.later(0.05, lambda: step(number + 1))
            else:
                target.later(0.01, lambda: target.take_snapshot(header, image, ended))

        self.later(0.01, lambda: step(0))
        self.later(10.0, lambda: self._stream_ended(header.target, ok=False))

    def _stream_ended(self, peer: str, *, ok: bool) -> None:
        self.raft.report_snapshot(peer, ok)
        self.pump()

    def take_snapshot(self, header: InstallSnapshot, image: bytes, ended: Callable[..., None]) -> None:
        """A received snapshot is durable before the core hears of it."""
        if header.term < self.raft.term or self._installing or header.meta.index <= self.raft.applied_index:
            self.receive(encode([header]))
            ended(ok=False)
            return

        def durable() -> None:
            self.disk.save(header.meta, image)
            if not self.world.mutant.uses_snapshot_before_saving:
                self.receive(encode([header]))
            if self.world.network.passes(header.target, header.sender):
                ended(ok=True)

        if self.world.mutant.uses_snapshot_before_saving:
            self.world.unsaved_images[header.meta.index] = image
            self.receive(encode([header]))
        self.later(self.world.swarm.fsync_time(self.world.rng, calm=self.world.calm), durable)

    def _install(self, meta: SnapshotMeta) -> None:
        """Replaces the state at once; the core goes on when the stored log begins anew."""
        life = self.life
        self._installing = True
        self._to_apply.clear()
        self.world.counters["snapshots installed"] += 1
        image = self.disk.snapshots[meta.index][1] if meta.index in self.disk.snapshots else self.world.unsaved_images[meta.index]
        self.machine.restore(image)
        self.world.invariants.on_snapshot(self, meta, image)
        for index in [index for index in self._waiting if index <= meta.index]:
            del self._waiting[index]

        def restarted() -> None:
            if self.life == life:
                self._installing = False
                self.raft.snapshot_installed(meta)
                self.world.invariants.on_applied(self)

        self.disk.restart_after(meta, restarted)
        self._run_disk()
