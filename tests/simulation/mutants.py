"""Bugs that history knows, planted one at a time: a simulator that does not find them proves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from discovery.raft.core import Raft, Ready
from discovery.raft.messages import HardState

if TYPE_CHECKING:
    from tests.simulation.node import Node
    from tests.simulation.world import Swarm


class Mutant:
    """No bug at all; the others override one thing."""

    raft: type[Raft] = Raft
    promises_before_fsync = False

    def swarm(self, drawn: Swarm) -> Swarm:
        return drawn

    def stored_hard_state(self, node: Node, hard_state: HardState | None) -> HardState | None:
        return hard_state

    def after_handling(self, node: Node, ready: Ready) -> None:
        pass
