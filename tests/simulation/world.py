"""Virtual time, a network that loses, repeats, delays and cuts, clients with their histories, and a nemesis."""

from __future__ import annotations

import heapq
import itertools
import random
import zlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Options, Role
from discovery.raft.messages import Configuration, Message, Server, encode
from tests.simulation.invariants import Invariants, Violation
from tests.simulation.linearizability import Operation, SearchExhausted, is_linearizable
from tests.simulation.machine import Command
from tests.simulation.mutants import Mutant
from tests.simulation.node import REFUSED, Node

CALM_SECONDS = 40.0
"""Within this time after the last fault the cluster must lead, commit and agree."""


class SimulationFailed(AssertionError):
    """A run went wrong; the text holds all that is needed to repeat it."""


@dataclass(frozen=True)
class Swarm:
    """What kind of world a seed makes: small limits make rare paths common."""

    servers: int
    spares: int
    clients: int
    keys: int
    loss: float
    duplication: float
    delay: float
    fsync: float
    overlapping_writes: bool
    lease_reads: bool
    snapshot_threshold: int
    trailing: int
    trouble_interval: float

    @classmethod
    def draw(cls, rng: random.Random) -> Swarm:
        return cls(
            servers=rng.choice((1, 2, 3, 3, 3, 4, 5, 5)),
            spares=rng.choice((0, 0, 1, 2)),
            clients=rng.randint(2, 5),
            keys=rng.randint(1, 3),
            loss=rng.choice((0, 0, 0.02, 0.1, 0.25)),
            duplication=rng.choice((0, 0.05, 0.3)),
            delay=rng.choice((0.002, 0.01, 0.05)),
            fsync=rng.choice((0.001, 0.01, 0.05)),
            overlapping_writes=rng.random() < 0.5,
            lease_reads=rng.random() < 0.4,
            snapshot_threshold=rng.choice((8, 25, 80, 10_000)),
            trailing=rng.choice((0, 1, 10)),
            trouble_interval=rng.choice((0.3, 1.0, 3.0)),
        )

    def fsync_time(self, rng: random.Random) -> float:
        return rng.expovariate(1 / self.fsync) + (rng.random() < 0.005) * rng.uniform(0.1, 2)

    def snapshot_time(self, rng: random.Random) -> float:
        return rng.expovariate(10)


class Network:
    """One-way paths between servers. A frame is everything one server had to say to another in one turn."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: set[tuple[str, str]] = set()

    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self._cut

    def heal(self) -> None:
        self._cut.clear()

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        self._cut |= set(itertools.product(list(sources), list(targets)))

    def send(self, source: str, messages: Iterable[Message]) -> None:
        frames: defaultdict[str, list[Message]] = defaultdict(list)
        for message in messages:
            frames[message.target].append(message)
        for target, frame in frames.items():
            self._send_frame(source, target, encode(frame))

    def _send_frame(self, source: str, target: str, frame: bytes) -> None:
        world, rng = self._world, self._world.rng
        copies = 1 + (rng.random() < world.faults * world.swarm.duplication)
        for _ in range(copies):
            if self.passes(source, target) and rng.random() >= world.faults * world.swarm.loss:
                delay = rng.expovariate(1 / world.swarm.delay) + 0.0005
                world.at(world.time + delay, lambda: self._deliver(source, target, frame))

    def _deliver(self, source: str, target: str, frame: bytes) -> None:
        node = self._world.nodes[target]
        if node.up and self.passes(source, target):
            node.later(0, lambda: node.receive(frame))


class Client:
    """One operation at a time. After an unknown outcome it goes on under a new name, as its old self may still act."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._turn = 0

    def begin(self) -> None:
        world, rng = self._world, self._world.rng
        node = self._choose()
        if node is None or not world.clients_active:
            world.after(0.1, self.begin)
            return
        self._turn += 1
        kind = rng.choice(("read", "write", "cas"))
        argument = None if kind == "read" else f"{self._number}.{self._turn}"
        expected = rng.choice(world.recent_values) if kind == "cas" else None
        key = f"k{rng.randrange(world.swarm.keys)}"
        operation = Operation(self._number, key, kind, argument, expected, called=world.tick_sequence())
        if argument is not None:
            world.recent_values.append(argument)
        turn = self._turn
        world.after(4.0, lambda: self._finish(turn, operation, known=False))

        def answer(result: object) -> None:
            self._answered(turn, operation, result)

        if kind == "read":
            node.later(0, lambda: node.read(key, answer))
        else:
            node.later(0, lambda: node.request(Command(kind, key, argument, expected), answer))

    def _choose(self) -> Node | None:
        """Whoever believes to lead, now and then anybody."""
        up = [node for node in self._world.nodes.values() if node.up]
        leading = [node for node in up if node.raft.role is Role.LEADER]
        return self._world.rng.choice(leading or up) if up else None

    def _answered(self, turn: int, operation: Operation, result: object) -> None:
        if turn != self._turn:
            return
        if result == REFUSED:
            self._world.counters["refused"] += 1
            self._turn += 1
            self._world.after(0.2, self.begin)
            return
        operation.result = result  # type: ignore[assignment]
        operation.returned = self._world.tick_sequence()
        self._finish(turn, operation, known=True)

    def _finish(self, turn: int, operation: Operation, *, known: bool) -> None:
        if turn != self._turn:
            return
        self._turn += 1
        self._world.counters[f"{operation.kind} {'done' if known else 'unknown'}"] += 1
        if known or operation.kind != "read":
            self._world.history[operation.key].append(operation)
        self._world.after(self._world.rng.expovariate(20), self.begin)


class World:
    """One run. `run` raises SimulationFailed with the seed, the step and the last events."""

    def __init__(self, seed: int, steps: int, mutant: Mutant | None = None) -> None:
        self.seed = seed
        self.steps = steps
        self.mutant = mutant or Mutant()
        self.rng = random.Random(seed)
        self.swarm = self.mutant.swarm(Swarm.draw(self.rng))
        self.options = self._draw_options()
        self.time = 100.0
        self.step = 0
        self.faults = 1.0
        self.clients_active = True
        self.invariants = Invariants()
        self.network = Network(self)
        self.history: defaultdict[str, list[Operation]] = defaultdict(list)
        self.recent_values: deque[str | None] = deque([None], maxlen=4)
        self.counters: Counter[str] = Counter()
        self.trace_hash = 0
        self._tail: deque[str] = deque(maxlen=40)
        self._sequence = itertools.count(1)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self.nodes = {f"s{number}": Node(self, f"s{number}") for number in range(self.swarm.servers + self.swarm.spares)}

    def _draw_options(self) -> Options:
        rng = self.rng
        return Options(
            max_inflight_messages=rng.choice((1, 2, 8, 64)),
            max_message_bytes=rng.choice((1, 200, 1 << 20)),
            max_uncommitted_bytes=rng.choice((200, 2000, 1 << 20)),
            max_apply_bytes=rng.choice((1, 300, 1 << 20)),
        )

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
        try:
            self._begin()
            self._advance(lambda: self.step < self.steps)
            self._calm_down()
            self._check_histories()
        except Exception as error:
            raise SimulationFailed(self._report(error)) from error

    def _begin(self) -> None:
        names = list(self.nodes)
        founders = Configuration(tuple(Server(name, f"{name}:1") for name in names[: self.swarm.servers]))
        for node in self.nodes.values():
            node.start()
            if founders.get(node.name):
                node.bootstrap(founders)
        for number in range(self.swarm.clients):
            self.after(1.0, Client(self, number).begin)
        self.after(3.0, self._trouble)

    def _advance(self, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            self.time, _, action = heapq.heappop(self._events)
            self.step += 1
            action()

    def _calm_down(self) -> None:
        """Liveness: everything is healed and restarted, and must recover on its own."""
        self.trace("calm")
        self.faults = 0.0
        self.network.heal()
        for node in self.nodes.values():
            node.paused_until = 0.0
            if not node.up:
                node.start()
        end = self.time + CALM_SECONDS / 2
        self._advance(lambda: self.time < end)
        self.clients_active = False
        end = self.time + CALM_SECONDS / 2
        self._advance(lambda: self.time < end)
        leaders = [node for node in self.nodes.values() if node.raft.role is Role.LEADER]
        if len(leaders) != 1:
            raise Violation(f"{len(leaders)} leaders after {CALM_SECONDS} calm seconds")
        members = leaders[0].raft.configuration.ids()
        positions = {name: self.nodes[name].machine.applied for name in sorted(members)}
        if set(positions.values()) != {leaders[0].raft.last_index}:
            raise Violation(f"applied {positions} after {CALM_SECONDS} calm seconds, {leaders[0].raft!r}")

    def _check_histories(self) -> None:
        for key, operations in self.history.items():
            try:
                if not is_linearizable(operations):
                    raise Violation(f"the history of {key} is not linearizable:\n" + "\n".join(map(repr, operations)))
            except SearchExhausted:
                self.counters["undecided histories"] += 1

    def _report(self, error: Exception) -> str:
        lines = [f"seed {self.seed}, step {self.step} of {self.steps}, {self.swarm}, {self.options}"]
        return "\n".join([*lines, *self._tail, f"{type(error).__name__}: {error}"])

    # the nemesis

    def _trouble(self) -> None:
        if self.faults:
            kind = self.rng.choice(self._troubles())
            kind()
            self.after(self.rng.expovariate(1 / self.swarm.trouble_interval), self._trouble)

    def _troubles(self) -> list[Callable[[], None]]:
        return [
            self._crash,
            self._crash,
            self._restart,
            self._restart,
            self._restart,
            self._isolate,
            self._split,
            self._deafen,
            self.network.heal,
            self.network.heal,
            self._pause,
            self._change_members,
            self._change_members,
            self._transfer,
        ]

    def _pick(self, *, up: bool) -> Node | None:
        nodes = [node for node in self.nodes.values() if node.up is up]
        leaders = [node for node in nodes if up and node.raft.role is Role.LEADER]
        if leaders and self.rng.random() < 0.4:
            return self.rng.choice(leaders)
        return self.rng.choice(nodes) if nodes else None

    def _crash(self) -> None:
        if node := self._pick(up=True):
            self.counters["crash"] += 1
            self.trace(f"crash {node.name}")
            node.crash()

    def _restart(self) -> None:
        if node := self._pick(up=False):
            self.trace(f"restart {node.name}")
            node.start()

    def _isolate(self) -> None:
        if node := self._pick(up=True):
            self.trace(f"isolate {node.name}")
            self.network.cut([node.name], self.nodes)
            self.network.cut(self.nodes, [node.name])

    def _deafen(self) -> None:
        """A one-way fault: heard by all or hearing all, but not both."""
        if node := self._pick(up=True):
            self.trace(f"deafen {node.name}")
            if self.rng.random() < 0.5:
                self.network.cut([node.name], self.nodes)
            else:
                self.network.cut(self.nodes, [node.name])

    def _split(self) -> None:
        side = [name for name in self.nodes if self.rng.random() < 0.5]
        rest = [name for name in self.nodes if name not in side]
        self.trace(f"split off {side}")
        self.network.cut(side, rest)
        self.network.cut(rest, side)

    def _pause(self) -> None:
        if node := self._pick(up=True):
            node.paused_until = self.time + self.rng.uniform(0.1, 5)
            self.trace(f"pause {node.name} until {node.paused_until:.3f}")

    def _transfer(self) -> None:
        for node in self.nodes.values():
            if node.up and node.raft.role is Role.LEADER:
                target = self.rng.choice([None, *self.nodes])
                self.trace(f"transfer from {node.name} to {target}")
                node.later(0, lambda node=node, target=target: node.transfer(target))

    def _change_members(self) -> None:
        name = self.rng.choice(list(self.nodes))
        change = ConfigurationChange(self.rng.choice(list(ChangeKind)), name, f"{name}:1")
        self.trace(f"{change}")
        for node in self.nodes.values():
            if node.up and node.raft.role is Role.LEADER:
                node.later(0, lambda node=node: node.change_members(change))
