"""What goes wrong in a world, as far as its swarm allows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from discovery.raft.configuration import ChangeKind, ConfigurationChange
from discovery.raft.core import Role

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import World

RUMOUR_SKEW = 0.1
"""Clocks up to a tenth too slow and too fast differ by a factor of 1.22, which `GONE_AFTER_LEASES` covers."""


class Nemesis:
    def __init__(self, world: World) -> None:
        self._world = world
        kinds: dict[str, list[Callable[[], None]]] = {
            "crash": [self._crash, self._crash, self._restart, self._restart, self._restart],
            "isolate": [self._isolate, self._heal],
            "split": [self._split, self._heal],
            "deafen": [self._deafen, self._heal],
            "pause": [self._pause],
            "stall": [self._stall],
            "members": [self._change_members, self._change_members],
            "transfer": [self._transfer],
            "rumour": [self._rumour, self._heal],
        }
        self._choices = [action for kind in world.swarm.trouble for action in kinds[kind]]

    def begin(self) -> None:
        """Troubles come one at a time or, often, close together."""
        if not self._world.calm:
            self._world.rng.choice(self._choices)()
            mean = 0.1 if self._world.rng.random() < 0.4 else self._world.swarm.trouble_interval
            self._world.after(self._world.rng.expovariate(1 / mean), self.begin)

    def _note(self, kind: str, text: str) -> None:
        self._world.counters[kind] += 1
        self._world.trace(f"{kind} {text}")

    def _pick(self, *, up: bool) -> Node | None:
        nodes = [node for node in self._world.nodes.values() if node.up is up]
        leaders = [node for node in nodes if up and node.raft.role is Role.LEADER]
        if leaders and self._world.rng.random() < 0.4:
            return self._world.rng.choice(leaders)
        return self._world.rng.choice(nodes) if nodes else None

    def _crash(self) -> None:
        """Some servers are started again at once, others stay away for long."""
        if node := self._pick(up=True):
            self._note("crash", node.name)
            node.crash()
            self._tell_gone(node.name)
            if self._world.rng.random() < 0.3:
                self._world.after(self._world.rng.uniform(0.05, 0.4), partial(self._start, node))

    def _tell_gone(self, name: str) -> None:
        """Some of those who reach its machine notice, at times only after it has been started again."""
        for node in self._world.nodes.values():
            if node.up and self._world.network.passes(name, node.name) and self._world.rng.random() < 0.7:
                node.later(self._world.rng.expovariate(1 / 0.05), partial(node.told_gone, name))

    def _rumour(self) -> None:
        """A firewall answers for a server that lives. Only where the clocks run as leases then need them to."""
        if self._world.swarm.clock_skew <= RUMOUR_SKEW and (node := self._pick(up=True)):
            self._note("rumour", f"{node.name} is gone")
            self._tell_gone(node.name)
            self._world.network.cut([node.name], self._world.nodes)
            self._world.network.cut(self._world.nodes, [node.name])

    def _restart(self) -> None:
        if node := self._pick(up=False):
            self._start(node)

    def _start(self, node: Node) -> None:
        if not node.up:
            self._note("restart", node.name)
            node.start()

    def _isolate(self) -> None:
        if node := self._pick(up=True):
            self._note("isolate", node.name)
            self._before_a_cut()
            self._world.network.cut([node.name], self._world.nodes)
            self._world.network.cut(self._world.nodes, [node.name])

    def _deafen(self) -> None:
        """A one-way fault: heard by all or hearing all, but not both; or so towards one other only."""
        if node := self._pick(up=True):
            others = [name for name in self._world.nodes if name != node.name]
            if others and self._world.rng.random() < 0.5:
                others = [self._world.rng.choice(others)]
            mute = self._world.rng.random() < 0.5
            self._note("mute" if mute else "deafen", f"{node.name} {others}")
            self._before_a_cut()
            self._world.network.cut(*([node.name], others) if mute else (others, [node.name]))

    def _split(self) -> None:
        """In two halves, sometimes with one server that still reaches both."""
        names = list(self._world.nodes)
        side = [name for name in names if self._world.rng.random() < 0.5]
        bridge = self._world.rng.choice(names) if self._world.rng.random() < 0.3 else None
        rest = [name for name in names if name not in side and name != bridge]
        side = [name for name in side if name != bridge]
        self._note("split", f"{side} {rest}, bridge {bridge}")
        self._before_a_cut()
        self._world.network.cut(side, rest)
        self._world.network.cut(rest, side)

    def _before_a_cut(self) -> None:
        """Cuts add up now and then only: where nothing gets through, nothing happens."""
        if self._world.rng.random() < 0.7:
            self._world.network.heal()

    def _heal(self) -> None:
        self._world.trace("heal")
        self._world.network.heal()

    def _pause(self) -> None:
        if node := self._pick(up=True):
            node.pause(self._world.rng.uniform(0.1, 5))
            self._note("pause", f"{node.name} until {node.paused_until:.3f}")

    def _stall(self) -> None:
        if node := self._pick(up=True):
            node.disk_stuck_until = self._world.time + self._world.rng.uniform(0.1, 4)
            self._note("stall", f"disk of {node.name} until {node.disk_stuck_until:.3f}")

    def _transfer(self) -> None:
        """Sometimes the old leader hears nothing any more just as it hands over."""
        target = self._world.rng.choice([None, *self._world.nodes])
        for node in self._leaders():
            self._world.trace(f"transfer from {node.name} to {target}")
            node.later(0, partial(node.transfer, target))
            if "deafen" in self._world.swarm.trouble and self._world.rng.random() < 0.3:
                self._world.after(self._world.rng.uniform(0, 0.1), partial(self._stop_hearing, node))

    def _stop_hearing(self, node: Node) -> None:
        if not self._world.calm:
            self._world.network.cut(self._world.nodes, [node.name])

    def _change_members(self) -> None:
        """Something that would change the leader's configuration, though its leader may find that it must not."""
        name = self._world.rng.choice(list(self._world.nodes))
        for node in self._leaders():
            server = node.raft.configuration.get(name)
            if server is None:
                kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_VOTER, ChangeKind.ADD_NONVOTER)
            elif server.voter:
                kinds = (ChangeKind.DEMOTE_VOTER, ChangeKind.REMOVE_SERVER, ChangeKind.ADD_VOTER)
            else:
                kinds = (ChangeKind.ADD_VOTER, ChangeKind.ADD_VOTER, ChangeKind.REMOVE_SERVER)
            moved = f"{name}:{self._world.rng.randint(1, 2)}"
            change = ConfigurationChange(self._world.rng.choice(kinds), name, moved)
            self._world.trace(f"{change.kind.name} {name} at {node.name}")
            node.later(0, partial(node.change_members, change))

    def _leaders(self) -> list[Node]:
        return [node for node in self._world.nodes.values() if node.up and node.raft.role is Role.LEADER]
