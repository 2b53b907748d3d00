"""The shell of one simulated server: what the real one does with sockets, threads and files, done with events."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

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
from tests.simulation.disk import SimulatedDisk
from tests.simulation.machine import Command, RegisterMachine

if TYPE_CHECKING:
    from tests.simulation.world import World

REFUSED = "refused"
"""The answer to an operation that surely did not and will not take place."""

Answer = Callable[[object], None]


class Node:
    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.disk = SimulatedDisk(name)
        self.rng = random.Random(f"{world.seed}/{name}")
        self.clock_rate = self.rng.uniform(0.95, 1.05)
        self.life = 0
        self.up = False
        self.paused_until = 0.0
        self.raft: Raft
        self.machine: RegisterMachine

    # life and death

    def start(self) -> None:
        self.life += 1
        self.up = True
        self.started = self.world.time
        self._disk_busy = False
        self._next_tick = float("inf")
        self._requests: list[tuple[Command, Answer]] = []
        self._waiting: dict[int, tuple[int, list[Answer]]] = {}
        self._reads: dict[int, tuple[str, Answer]] = {}
        self._confirmed: list[tuple[int, str, Answer]] = []
        self._snapshot_running = False
        self._was_leader = False
        recovered = recover(self.disk, self.disk)  # type: ignore[arg-type]
        self.machine = RegisterMachine()
        if recovered.snapshot is not None:
            self.machine.restore(self.disk.snapshots[recovered.snapshot.index][1])
        self.raft = self.world.mutant.raft(
            server_id=self.name,
            options=self.world.options,
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

    def later(self, delay: float, action: Callable[[], None]) -> None:
        """Runs `action` unless this life has ended by then; what comes due during a pause waits for its end."""
        life = self.life

        def run() -> None:
            if self.life != life:
                return
            if self.world.time < self.paused_until:
                self.world.at(self.paused_until, run)
            else:
                action()

        self.world.at(self.world.time + delay, run)

    # what comes in

    def receive(self, frame: bytes) -> None:
        for message in decode(frame):
            self.raft.step(message, self.now())
        self.pump()

    def request(self, command: Command, answer: Answer) -> None:
        self._requests.append((command, answer))
        self.pump()

    def read(self, key: str, answer: Answer) -> None:
        """A linearizable read: by the lease where it holds, else by ReadIndex."""
        if self.world.swarm.lease_reads and self.raft.lease_valid(self.now()):
            answer(self.machine.values.get(key))
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
        self.pump()

    def transfer(self, target: str | None) -> None:
        try:
            self.raft.transfer_leadership(target, self.now())
        except (NotLeader, TransferRefused):
            return
        self.pump()

    def tick(self) -> None:
        if self._next_tick <= self.world.time + 1e-9:
            self._next_tick = float("inf")
            self.raft.tick(self.now())
        self.pump()

    # what goes out

    def pump(self) -> None:
        """One turn: takes everything the core wants done, until it wants nothing more."""
        self._propose()
        while (ready := self.raft.ready(write=self.world.swarm.overlapping_writes or not self._disk_busy)) is not None:
            self._handle(ready)
        if self.raft.role is Role.LEADER and not self._was_leader:
            self.world.trace(f"{self.name} leads term {self.raft.term}")
            self.world.invariants.on_elected(self)
        self._was_leader = self.raft.role is Role.LEADER
        self.world.invariants.on_event(self)
        self._schedule_tick()

    def _propose(self) -> None:
        requests, self._requests = self._requests, []
        if not requests:
            return
        try:
            index, term = self.raft.propose(msgspec.msgpack.encode([command for command, _ in requests]))
        except (NotLeader, ProposalRefused):
            for _, answer in requests:
                answer(REFUSED)
        else:
            self._waiting[index] = (term, [answer for _, answer in requests])

    def _handle(self, ready: Ready) -> None:
        mutant = self.world.mutant
        self.world.network.send(self.name, ready.messages)
        if ready.write_id is not None:
            self._write(ready, ready.write_id)
        for token in ready.reads_failed:
            self._reads.pop(token)[1](REFUSED)
        self._confirmed += [(index, *self._reads.pop(token)) for token, index in ready.reads]
        for entry in ready.committed:
            self._apply(entry)
        if ready.committed:
            self.raft.applied(self.machine.applied)
            self._maybe_snapshot()
        self._answer_reads()
        for header in ready.snapshots_to_send:
            self._stream(header)
        if ready.install_snapshot is not None:
            meta = ready.install_snapshot
            self.disk.submit(lambda: self.disk.reset(meta), lambda: self._installed(meta))
            self._run_disk()
        mutant.after_handling(self, ready)

    def _write(self, ready: Ready, write_id: int) -> None:
        mutant = self.world.mutant
        if ready.entries:
            prev_term = self.raft.term_at(ready.entries[0].index - 1)
            assert prev_term is not None
            self.world.invariants.on_write(self.name, prev_term, ready.entries)
        if mutant.promises_before_fsync:
            self._promise(ready.messages_after_persist)
        hard_state = mutant.stored_hard_state(self, ready.hard_state)

        def done() -> None:
            self.raft.persisted(write_id)
            if not mutant.promises_before_fsync:
                self._promise(ready.messages_after_persist)

        self.disk.submit(lambda: self.disk.append(ready.entries, hard_state), done)
        self._run_disk()

    def _promise(self, messages: list[Message]) -> None:
        for message in messages:
            self.world.invariants.on_promise(self, message)
        self.world.network.send(self.name, messages)

    def _run_disk(self) -> None:
        if not self._disk_busy and self.disk.queue:
            self._disk_busy = True
            self.later(self.world.swarm.fsync_time(self.world.rng), self._disk_done)

    def _disk_done(self) -> None:
        self._disk_busy = False
        self.disk.finish_one()()
        self._run_disk()
        self.pump()

    def _apply(self, entry: Entry) -> None:
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
                answer(self.machine.values.get(key))
            else:
                self._confirmed.append((index, key, answer))

    # snapshots

    def _maybe_snapshot(self) -> None:
        start = self.raft.snapshot.index if self.raft.snapshot else 0
        if self._snapshot_running or self.machine.applied - start < self.world.swarm.snapshot_threshold:
            return
        self._snapshot_running = True
        meta, state = self.raft.describe_snapshot(self.machine.applied), self.machine.snapshot()
        self.later(self.world.swarm.snapshot_time(self.world.rng), lambda: self._snapshot_saved(meta, state))

    def _snapshot_saved(self, meta: SnapshotMeta, state: bytes) -> None:
        self._snapshot_running = False
        self.disk.save(meta, state)
        up_to = self.raft.compact(meta, self.world.swarm.trailing)
        self.disk.submit(lambda: self.disk.compact(up_to), lambda: None)
        self._run_disk()
        self.pump()

    def _stream(self, header: InstallSnapshot) -> None:
        """Sends a few signs of progress, then the whole; a stream may break anywhere."""
        state = self.disk.snapshots[header.meta.index][1]
        target = self.world.nodes[header.target]
        progress = SnapshotProgress(header.sender, header.target, header.term)
        chunks = self.world.rng.randint(1, 4)

        def step(number: int) -> None:
            if not self.world.network.passes(self.name, header.target) or not target.up:
                self._stream_ended(header.target, ok=False)
            elif number < chunks:
                target.later(0, lambda: target.receive(encode([progress])))
                self.later(0.05, lambda: step(number + 1))
            else:
                target.later(0.01, lambda: target.take_snapshot(header, state))
                self.later(0.02, lambda: self._stream_ended(header.target, ok=True))

        self.later(0.01, lambda: step(0))

    def _stream_ended(self, peer: str, *, ok: bool) -> None:
        self.raft.report_snapshot(peer, ok)
        self.pump()

    def take_snapshot(self, header: InstallSnapshot, state: bytes) -> None:
        """A received snapshot is durable before the core hears of it."""
        self.disk.save(header.meta, state)
        self.receive(encode([header]))

    def _installed(self, meta: SnapshotMeta) -> None:
        self.machine.restore(self.disk.snapshots[meta.index][1])
        for index in [index for index in self._waiting if index <= meta.index]:
            del self._waiting[index]
        self.raft.snapshot_installed(meta)
        self.world.invariants.on_applied(self)

    def _schedule_tick(self) -> None:
        deadline = self.raft.deadline()
        if deadline == float("inf"):
            return
        due = max(deadline / self.clock_rate, self.world.time)
        if due < self._next_tick:
            self._next_tick = due
            self.later(due - self.world.time, self.tick)
