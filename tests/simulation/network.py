"""One-way paths between servers that lose, repeat, delay and cut. A frame is all that one server had to say in one turn."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from discovery.raft.messages import Message, encode

if TYPE_CHECKING:
    from tests.simulation.world import World


class Network:
    def __init__(self, world: World) -> None:
        self._world = world
        self._cut: set[tuple[str, str]] = set()
        self._last_arrival: dict[tuple[str, str], float] = {}

    def passes(self, source: str, target: str) -> bool:
        return (source, target) not in self._cut

    def heal(self) -> None:
        self._cut.clear()

    def cut(self, sources: Iterable[str], targets: Iterable[str]) -> None:
        self._cut |= set(itertools.product(list(sources), list(targets)))

    def send(self, source: str, messages: Iterable[Message]) -> None:
        frames: dict[str, list[Message]] = {}
        for message in messages:
            frames.setdefault(message.target, []).append(message)
        for target, frame in frames.items():
            self._send_frame(source, target, encode(frame))

    def _send_frame(self, source: str, target: str, frame: bytes) -> None:
        world, rng, swarm = self._world, self._world.rng, self._world.swarm
        world.trace_hash = zlib.crc32(frame, world.trace_hash)
        if target not in world.nodes:
            return
        copies = 1 if world.calm or rng.random() >= swarm.duplication else 2
        for _ in range(copies):
            if not self.passes(source, target) or (not world.calm and rng.random() < swarm.loss):
                self._lost(source, target)
            else:
                world.at(self._arrival(source, target), lambda: self._deliver(source, target, frame))

    def _arrival(self, source: str, target: str) -> float:
        world = self._world
        arrival = world.time + world.swarm.network_delay(world.rng, calm=world.calm)
        if world.swarm.ordered:
            arrival = max(arrival, self._last_arrival.get((source, target), 0.0) + 1e-6)
            self._last_arrival[source, target] = arrival
        return arrival

    def _deliver(self, source: str, target: str, frame: bytes) -> None:
        node = self._world.nodes[target]
        if node.up and self.passes(source, target):
            node.later(0, lambda: node.receive(frame))

    def _lost(self, source: str, target: str) -> None:
        """A connection that breaks is noticed now and then."""
        world = self._world
        if world.rng.random() < 0.2:
            node = world.nodes[source]
            node.later(world.rng.uniform(0, 0.2), lambda: node.lost_touch(target))
