"""Clients that read, write, delete and compare-and-set, and note when they asked and what they were told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discovery.model import commands as c
from discovery.raft.core import Role
from tests.simulation.linearizability import Operation
from tests.simulation.machine import Found

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

REFUSED = "refused"
"""The answer to an operation that surely did not and will not take place."""

PATIENCE = 4.0
"""Seconds after which a client stops waiting; the outcome is unknown then."""


class Client:
    """One operation at a time. After an unknown outcome it goes on as if it were another, as what it asked may still happen."""

    def __init__(self, world: World, number: int) -> None:
        self._world = world
        self._number = number
        self._turn = 0
        self.idle = True

    def begin(self) -> None:
        world, rng = self._world, self._world.rng
        node = self._choose()
        if node is None or not world.clients_active:
            world.after(0.1, self.begin)
            return
        self.idle = False
        self._turn += 1
        key = f"k{rng.randrange(world.swarm.keys)}"
        kind = rng.choice(("read", "read", "write", "write", "cas", "delete"))
        if kind == "read":
            self._read(node, key)
        else:
            self._write(node, key, kind)

    def _choose(self) -> Node | None:
        """Whoever believes to lead, right or wrong; now and then anybody."""
        up = [node for node in self._world.nodes.values() if node.up]
        leading = [node for node in up if node.raft.role is Role.LEADER]
        return self._world.rng.choice(leading or up) if up else None

    def _read(self, node: Node, key: str) -> None:
        operation = Operation(self._number, key, "read", called=self._world.tick_sequence())
        turn = self._expect(operation)

        def answer(found: object) -> None:
            if turn != self._turn:
                return
            if found == REFUSED:
                self._refused()
                return
            operation.result, operation.index = found or (None, 0)  # type: ignore[misc]
            self._world.found[key].append(found)  # type: ignore[arg-type]
            self._returned(operation)

        node.later(0, lambda: node.read(key, answer), for_client=True)

    def _write(self, node: Node, key: str, kind: str) -> None:
        """A cas refers to something that was found earlier; as values are unique, its index stands for its value."""
        found: Found = self._world.rng.choice(self._world.found[key]) if kind == "cas" else None
        argument = None if kind == "delete" else f"{self._number}.{self._turn}"
        operation = Operation(self._number, key, kind, argument, found and found[0], called=self._world.tick_sequence())
        turn = self._expect(operation)

        def answer(result: object) -> None:
            if turn != self._turn:
                return
            if result == REFUSED:
                self._refused()
                return
            operation.result = bool(result)
            self._returned(operation)

        op = "set" if kind == "write" else kind
        command = c.KV(op, key, argument.encode() if argument else None, index=found[1] if found else 0)
        node.later(0, lambda: node.request(command, answer), for_client=True)

    def _expect(self, operation: Operation) -> int:
        turn = self._turn
        self._world.after(PATIENCE, lambda: self._give_up(turn, operation))
        return turn

    def _refused(self) -> None:
        self._world.counters["refused"] += 1
        self._rest(0.2)

    def _returned(self, operation: Operation) -> None:
        operation.returned = self._world.tick_sequence()
        self._world.history[operation.key].append(operation)
        self._world.counters[f"{operation.kind} done"] += 1
        self._rest(self._world.rng.expovariate(1 / self._world.swarm.think_time))

    def _give_up(self, turn: int, operation: Operation) -> None:
        if turn != self._turn:
            return
        if operation.kind != "read":
            self._world.history[operation.key].append(operation)
        self._world.counters[f"{operation.kind} unknown"] += 1
        self._rest(0.1)

    def _rest(self, seconds: float) -> None:
        self.idle = True
        self._turn += 1
        self._world.after(seconds, self.begin)
