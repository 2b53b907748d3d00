"""One run: virtual time, servers, a network, clients with their histories, and a nemesis, all from one seed.

First trouble, with the invariants checked after every event; then calm: everything is healed and started, and must elect,
settle all that is under way and agree within a bound, and stay so. In the end the clients' histories are judged.
"""

from __future__ import annotations

import heapq
import itertools
import random
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable
from pathlib import Path

from discovery.raft.core import Role
from discovery.raft.messages import Configuration, Server
from tests.simulation.client import Client
from tests.simulation.disk import Disk, FramedDisk
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.linearizability import Operation, SearchExhausted, is_linearizable, stale_read
from tests.simulation.machine import Found
from tests.simulation.mutants import Mutant
from tests.simulation.nemesis import Nemesis
from tests.simulation.network import Network
from tests.simulation.node import Node
from tests.simulation.stored_disk import StoredDisk
from tests.simulation.swarm import Swarm

QUIET_SECONDS = 3.0
"""For so long clients go on after the last pause and the last stall have ended."""
SETTLING_SECONDS = 30.0
"""Within this time after the last fault the cluster must lead, commit and agree."""
STEADY_SECONDS = 3.0
"""After that, nothing may change for so long."""


class SimulationFailed(AssertionError):
    """A run went wrong; the text holds all that is needed to repeat it."""


class World:
    """`run` raises SimulationFailed with the seed, the step and the last events."""

    def __init__(self, seed: int, steps: int, mutant: Mutant | None = None, *, directory: Path | None = None) -> None:
        """With a `directory` the logs are real ones in there."""
        self.seed = seed
        self.steps = steps
        self.mutant = mutant or Mutant("none")
        self.rng = random.Random(seed)
        self.swarm = self.mutant.swarm(Swarm.draw(self.rng))
        self.time = 100.0
        self.step = 0
        self.calm = False
        self.clients_active = True
        self.invariants = Invariants()
        self.network = Network(self)
        self.history: defaultdict[str, list[Operation]] = defaultdict(list)
        self.found: defaultdict[str, deque[Found]] = defaultdict(lambda: deque([None], maxlen=4))
        self.counters: Counter[str] = Counter()
        self.unsaved_images: dict[int, bytes] = {}
        self.trace_hash = 0
        self._tail: deque[str] = deque(maxlen=40)
        self._sequence = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._directory = directory
        names = [f"s{number}" for number in range(self.swarm.servers + self.swarm.spares)]
        self.nodes = {name: Node(self, name, self._disk(name)) for name in names}
        self._clients = [Client(self, number) for number in range(self.swarm.clients)]

    def _disk(self, name: str) -> Disk:
        if self._directory is not None:
            return StoredDisk(self._directory / name, self.counters)
        return FramedDisk(name, self.counters, believes_torn_writes=self.mutant.believes_torn_writes)

    # time

    def tick_sequence(self) -> int:
        return next(self._sequence)

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._events, (time, next(self._sequence), action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        self.at(self.time + delay, action)

    def trace(self, text: str) -> None:
        line = f"{self.time:10.4f} {text}"
        self._tail.append(line)
        self.trace_hash = zlib.crc32(line.encode(), self.trace_hash)

    # a run

    def run(self) -> None:
        with self.mutant.planted():
            try:
                self._begin()
                self._advance(lambda: self.step < self.steps)
                self._calm_down()
                self._check_histories()
            except Exception as error:
                raise SimulationFailed(self._report(error)) from error
            finally:
                self._close_disks()

    def _close_disks(self) -> None:
        for node in self.nodes.values():
            if isinstance(node.disk, StoredDisk):
                node.disk.close()

    def _begin(self) -> None:
        names = list(self.nodes)
        founders = Configuration(tuple(Server(name, f"{name}:1") for name in names[: self.swarm.servers]))
        for node in self.nodes.values():
            node.start()
            if founders.get(node.name):
                node.bootstrap(founders)
        for client in self._clients:
            self.after(1.0, client.begin)
        self.after(3.0, Nemesis(self).begin)

    def _advance(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            self.time, _, action = heapq.heappop(self._events)
            self.step += 1
            action()

    def _calm_down(self) -> None:
        self.trace("calm")
        self.calm = True
        self.network.heal()
        for node in self.nodes.values():
            if not node.up:
                node.start()
        last_fault = max(max(node.paused_until, node.disk_stuck_until) for node in self.nodes.values())
        self._advance_seconds(max(0.0, last_fault - self.time) + QUIET_SECONDS)
        self.clients_active = False
        end = self.time + SETTLING_SECONDS
        self._advance(lambda: self.time < end and self._unsettled() is not None)
        self._require_settled()
        terms = {node.raft.term for node in self._leaders()}
        self._advance_seconds(STEADY_SECONDS)
        self._require_settled()
        if {node.raft.term for node in self._leaders()} != terms:
            raise Violation(f"an election in the calm after terms {terms}")

    def _advance_seconds(self, seconds: float) -> None:
        end = self.time + seconds
        self._advance(lambda: self.time < end)

    def _leaders(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.raft.role is Role.LEADER]

    def _unsettled(self) -> str | None:
        """Why the cluster is not at rest; None if it is."""
        leaders = self._leaders()
        if len(leaders) != 1:
            return f"{len(leaders)} leaders"
        if not all(client.idle for client in self._clients):
            return "clients still wait"
        leader = leaders[0].raft
        for name in sorted(leader.configuration.ids()):
            if self.nodes[name].machine.applied != leader.last_index:
                return f"{self.nodes[name].raft!r} applied {self.nodes[name].machine.applied}, leads {leader!r}"
        return None

    def _require_settled(self) -> None:
        reason = self._unsettled()
        if reason is not None:
            raise Violation(f"after {SETTLING_SECONDS} calm seconds: {reason}")

    def _check_histories(self) -> None:
        for key, operations in self.history.items():
            story = f"the history of {key} is not linearizable:\n" + "\n".join(map(repr, operations))
            if (stale := stale_read(operations)) is not None:
                raise Violation(f"{story}\nstale: {stale}")
            try:
                if not is_linearizable(operations):
                    raise Violation(story)
            except SearchExhausted:
                self.counters["undecided histories"] += 1

    def _report(self, error: Exception) -> str:
        lines = [f"seed {self.seed}, step {self.step} of {self.steps}, mutant {self.mutant.name}, {self.swarm}"]
        return "\n".join([*lines, *self._tail, f"{type(error).__name__}: {error}"])
