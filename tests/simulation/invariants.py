"""What must hold after every event, kept outside the servers so that a crash of theirs forgets nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from discovery.raft.core import Role
from discovery.raft.messages import AppendReply, Configuration, Entry, HardState, Message, RequestVote, VoteReply
from discovery.raft.quorum import majority

if TYPE_CHECKING:
    from tests.simulation.node import Node


class Violation(AssertionError):
    """A safety property of Raft does not hold."""


def require(condition: bool, text: str) -> None:
    if not condition:
        raise Violation(text)


class Invariants:
    def __init__(self) -> None:
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.ledger: list[int] = [0]
        """The term of each committed entry, fixed by whoever committed it first."""
        self._prefix: dict[tuple[int, int], int] = {(0, 0): 0}
        self._states: dict[int, int] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._configurations: dict[int, Configuration] = {}

    def on_start(self, node: Node) -> None:
        """A restart forgets the commit index, but neither term nor vote."""
        term = self._seen.get(node.name, (0, 0))[0]
        require(node.raft.term >= node.disk.hard_state.term, f"{node.name} starts in term {node.raft.term}")
        self._seen[node.name] = (min(term, node.raft.term), 0)

    def on_event(self, node: Node) -> None:
        """After anything happened at `node`."""
        raft = node.raft
        term, commit = self._seen[node.name]
        require(raft.term >= term and raft.commit_index >= commit, f"{raft!r} went back from term {term}, commit {commit}")
        require(raft.applied_index <= raft.commit_index <= raft.last_index, f"watermarks of {raft!r}")
        self._seen[node.name] = (raft.term, raft.commit_index)
        if raft.role is Role.LEADER:
            self._check_leader(node)
        if raft.commit_index > commit:
            self._check_commit(node, commit)

    def _check_leader(self, node: Node) -> None:
        raft = node.raft
        known = self.leaders.setdefault(raft.term, node.name)
        require(known == node.name, f"term {raft.term} has two leaders: {known} and {node.name}")
        for peer, progress in raft.progress.items():
            require(0 <= progress.match < progress.next <= raft.last_index + 1, f"{peer} at {node.name}: {progress!r}")

    def on_elected(self, node: Node) -> None:
        """Leader completeness: whatever is committed is in the log of every later leader."""
        raft, last = node.raft, len(self.ledger) - 1
        held = raft.term_at(last)
        covered = held == self.ledger[last] or last < raft.first_index - 1
        require(covered, f"leader {node.name} of term {raft.term} lacks {last}@{self.ledger[last]}, has {raft!r}")

    def _check_commit(self, node: Node, before: int) -> None:
        """State machine safety, and a majority behind what a leader commits."""
        raft = node.raft
        for index in range(max(before + 1, raft.first_index), raft.commit_index + 1):
            term = raft.term_at(index)
            assert term is not None
            if index == len(self.ledger):
                self.ledger.append(term)
            require(index < len(self.ledger), f"{node.name} commits {index} after {len(self.ledger) - 1}")
            require(self.ledger[index] == term, f"{node.name} commits {index}@{term}, committed was {self.ledger[index]}")
        if raft.role is Role.LEADER:
            voters = raft.configuration.voters()
            copies = [name for name in voters if node.world.nodes[name].disk.holds(raft.commit_index, raft.term)]
            require(
                len(copies) >= majority(len(voters)),
                f"{node.name} commits {raft.commit_index}@{raft.term} durable only at {copies} of {sorted(voters)}",
            )

    def on_write(self, name: str, prev_term: int, entries: Iterable[Entry]) -> None:
        """Log matching: one (index, term) stands for one whole prefix, everywhere and for ever."""
        for entry in entries:
            previous = self._prefix[entry.index - 1, prev_term]
            digest = zlib.crc32(entry.data, zlib.crc32(b"%d@%d" % (entry.index, entry.term), previous))
            known = self._prefix.setdefault((entry.index, entry.term), digest)
            require(known == digest, f"{name} holds another history up to {entry.index}@{entry.term}")
            prev_term = entry.term

    def on_promise(self, node: Node, message: Message) -> None:
        """Nothing is promised before it is durable, and no vote given twice."""
        durable = node.disk.hard_state
        match message:
            case VoteReply(granted=True, pre_vote=False):
                self._check_vote(node.name, message.term, message.target)
                require(durable == HardState(message.term, message.target), f"{node.name} votes {message} holding {durable}")
            case RequestVote(pre_vote=False):
                self._check_vote(node.name, message.term, node.name)
                require(durable == HardState(message.term, node.name), f"{node.name} asks {message} holding {durable}")
                self._check_holds(node, message.last_index)
            case AppendReply(success=True):
                require(durable.term >= message.term, f"{node.name} acknowledges in {message.term} holding {durable}")
                self._check_holds(node, message.index)
            case _:
                pass

    def _check_vote(self, voter: str, term: int, candidate: str) -> None:
        known = self.votes.setdefault((voter, term), candidate)
        require(known == candidate, f"{voter} votes for {known} and {candidate} in term {term}")

    def _check_holds(self, node: Node, index: int) -> None:
        term = node.raft.term_at(index)
        held = term is None or index == 0 or node.disk.holds(index, term)
        require(held, f"{node.name} claims {index}@{term}, durable are {node.disk.base_index}..{node.disk.last_index}")

    def on_applied(self, node: Node) -> None:
        """Equal applied index, equal state."""
        index, digest = node.machine.applied, node.machine.digest
        known = self._states.setdefault(index, digest)
        require(known == digest, f"{node.name} has another state at {index}")

    def on_configuration_applied(self, index: int, configuration: Configuration) -> None:
        """Committed configurations follow each other one voter at a time."""
        known = self._configurations.setdefault(index, configuration)
        require(known == configuration, f"two configurations at {index}")
        earlier = max((other for other in self._configurations if other < index), default=None)
        later = min((other for other in self._configurations if other > index), default=None)
        if earlier is not None and later is None:
            moved = configuration.voters() ^ self._configurations[earlier].voters()
            require(len(moved) <= 1, f"the configuration at {index} moves {sorted(moved)} at once")
