"""What must hold after every event, kept outside the servers so that a crash of theirs forgets nothing."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import TYPE_CHECKING

from discovery.raft.core import Role
from discovery.raft.messages import (
    AppendReply,
    Configuration,
    Entry,
    HardState,
    Message,
    RequestVote,
    SnapshotMeta,
    VoteReply,
)
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
        self._committed_in: list[int] = [0]
        """The term in which each of them was seen to be committed."""
        self._keepers: tuple[int, frozenset[str]] = (0, frozenset())
        """The newest index a leader committed, and the voters a majority of whom must keep everything up to there."""
        self._prefix: dict[tuple[int, int], int] = {(0, 0): 0}
        self._states: dict[int, int] = {}
        self._images: dict[int, int] = {}
        self._seen: dict[str, tuple[int, int]] = {}
        self._members_at: dict[str, int] = {}
        self._leader_last: dict[int, int] = {}
        self._leader_configuration: dict[int, int] = {}
        self._terms_with_commits = {0}
        self._configurations: dict[int, Configuration] = {}

    def on_start(self, node: Node) -> None:
        """A restart forgets the commit index, but neither term nor vote, and nothing that was committed."""
        require(node.raft.term >= node.disk.hard_state.term, f"{node.name} starts in term {node.raft.term}")
        self._seen[node.name] = (node.raft.term, 0)
        self._members_at[node.name] = 0
        self._check_kept(node)

    def on_event(self, node: Node) -> None:
        """After anything happened at `node`."""
        raft = node.raft
        term, commit = self._seen[node.name]
        commit_index = raft.commit_index
        if raft.term < term or commit_index < commit:
            raise Violation(f"{raft!r} went back from term {term}, commit {commit}")
        if not raft.applied_index <= commit_index <= raft.last_index:
            raise Violation(f"watermarks of {raft!r}")
        self._seen[node.name] = (raft.term, commit_index)
        if raft.configuration_index != self._members_at[node.name]:
            node.world.counters["configurations fallen"] += raft.configuration_index < self._members_at[node.name]
            self._members_at[node.name] = raft.configuration_index
        if raft.role is Role.LEADER:
            self._check_leader(node)
        if commit_index > commit:
            self._check_commit(node, commit)
        if raft.role is Role.LEADER:
            self._check_member_change(node)

    def _check_leader(self, node: Node) -> None:
        """Election safety, append-only leaders, and what a leader believes of its followers."""
        raft = node.raft
        known = self.leaders.setdefault(raft.term, node.name)
        if known != node.name:
            raise Violation(f"term {raft.term} has two leaders: {known} and {node.name}")
        last = self._leader_last.get(raft.term, 0)
        if raft.last_index < last:
            raise Violation(f"the leader's log shrank from {last}: {raft!r}")
        self._leader_last[raft.term] = raft.last_index
        for peer, progress in raft.progress.items():
            node.world.counters["full windows"] += progress.window.full()
            if not 0 <= progress.match < progress.next <= raft.last_index + 1:
                raise Violation(f"{peer} at {node.name}: {progress!r}")

    def on_elected(self, node: Node) -> None:
        """Leader completeness: whatever was committed in earlier terms is in the log of a leader."""
        raft = node.raft
        last = max(index for index, term in enumerate(self._committed_in) if term < raft.term)
        held = raft.term_at(last)
        covered = held == self.ledger[last] or last < raft.first_index - 1
        require(covered, f"leader {node.name} of term {raft.term} lacks {last}@{self.ledger[last]}, has {raft!r}")
        self._check_leases(node)

    def _check_leases(self, elected: Node) -> None:
        """Nobody is elected while an earlier leader may still answer reads alone, by its own clock."""
        for node in elected.world.nodes.values():
            if node.up and node.raft.term < elected.raft.term and node.raft.lease_valid(node.now()):
                raise Violation(f"{elected.name} leads term {elected.raft.term} while the lease of {node.raft!r} is valid")

    def _check_commit(self, node: Node, before: int) -> None:
        """State machine safety, and a majority behind what a leader commits."""
        raft = node.raft
        for index in range(max(before + 1, raft.first_index), raft.commit_index + 1):
            term = raft.term_at(index)
            assert term is not None
            if index == len(self.ledger):
                self.ledger.append(term)
                self._committed_in.append(raft.term)
            require(index < len(self.ledger), f"{node.name} commits {index} after {len(self.ledger) - 1}")
            require(self.ledger[index] == term, f"{node.name} commits {index}@{term}, committed was {self.ledger[index]}")
        if raft.role is Role.LEADER:
            self._terms_with_commits.add(raft.term)
            self._keepers = (raft.commit_index, raft.configuration.voters())
            own = raft.term_at(raft.commit_index) == raft.term
            require(own, f"{node.name} commits {raft.commit_index} of an older term by counting: {raft!r}")
            self._check_kept(node)

    def _check_member_change(self, node: Node) -> None:
        """A leader begins a change when the one before is committed, and something of its own term too."""
        term, index = node.raft.term, node.raft.configuration_index
        before = self._leader_configuration.setdefault(term, index)
        if index != before:
            self._leader_configuration[term] = index
            settled = before < len(self.ledger) and term in self._terms_with_commits
            require(settled, f"{node.name} changes the members at {index}, {before} is not committed or nothing of term {term}")

    def _check_kept(self, node: Node) -> None:
        """No committed entry is lost: a majority has the newest, and by log matching all before it."""
        index, voters = self._keepers
        term = self.ledger[index]
        copies = [name for name in sorted(voters) if node.world.nodes[name].disk.holds(index, term)]
        enough = not index or len(copies) >= majority(len(voters))
        require(enough, f"{index}@{term} is committed but durable only at {copies} of {sorted(voters)}")

    def on_write(self, node: Node, prev_term: int, entries: Iterable[Entry]) -> None:
        """Log matching: one (index, term) stands for one whole prefix, everywhere and for ever."""
        for entry in entries:
            previous = self._prefix[entry.index - 1, prev_term]
            digest = zlib.crc32(entry.data, zlib.crc32(b"%d@%d" % (entry.index, entry.term), previous))
            known = self._prefix.setdefault((entry.index, entry.term), digest)
            require(known == digest, f"{node.name} holds another history up to {entry.index}@{entry.term}")
            prev_term = entry.term

    def on_promise(self, node: Node, message: Message) -> None:
        """Nothing is promised before it is durable, and no vote given twice."""
        durable = node.disk.hard_state
        match message:
            case VoteReply(granted=True, pre_vote=False):
                self._check_vote(node.name, message.term, message.target)
                kept = durable.term > message.term or durable == HardState(message.term, message.target)
                require(kept, f"{node.name} votes {message} holding {durable}")
            case RequestVote(pre_vote=False):
                self._check_vote(node.name, message.term, node.name)
                kept = durable.term > message.term or durable == HardState(message.term, node.name)
                require(kept, f"{node.name} asks {message} holding {durable}")
                self._check_holds(node, message.last_index, message.last_term)
            case AppendReply(success=True):
                require(durable.term >= message.term, f"{node.name} acknowledges in {message.term} holding {durable}")
                if node.raft.term == message.term:
                    self._check_holds(node, message.index, node.raft.term_at(message.index))
            case _:
                pass

    def _check_vote(self, voter: str, term: int, candidate: str) -> None:
        known = self.votes.setdefault((voter, term), candidate)
        require(known == candidate, f"{voter} votes for {known} and {candidate} in term {term}")

    def _check_holds(self, node: Node, index: int, term: int | None) -> None:
        held = term is None or index == 0 or node.disk.holds(index, term)
        require(held, f"{node.name} claims {index}@{term}, durable are {node.disk.base_index}..{node.disk.last_index}")

    def on_applied(self, node: Node) -> None:
        """Equal applied index, equal state; and nothing is applied before it is durable here."""
        index, digest = node.machine.applied, node.machine.digest
        self._check_holds(node, index, self.ledger[index])
        known = self._states.setdefault(index, digest)
        require(known == digest, f"{node.name} has another state at {index}")

    def on_snapshot(self, node: Node, meta: SnapshotMeta, image: bytes) -> None:
        """A snapshot, taken or received, is the state that replay leads to, and names the members of that place."""
        digest = zlib.crc32(image)
        known = self._images.setdefault(meta.index, digest)
        require(known == digest, f"{node.name} has another snapshot at {meta.index}")
        require(self.ledger[meta.index] == meta.term, f"snapshot {meta} of what was not committed")
        applied = max((index for index in self._configurations if index <= meta.index), default=0)
        configuration = self._configurations.get(applied, Configuration())
        same = (meta.configuration_index, meta.configuration) == (applied, configuration)
        require(same, f"snapshot {meta} of {node.name}, in force is {configuration} of {applied}")

    def on_configuration_applied(self, index: int, configuration: Configuration) -> None:
        """Committed configurations follow each other one voter at a time."""
        known = self._configurations.setdefault(index, configuration)
        require(known == configuration, f"two configurations at {index}")
        earlier = max((other for other in self._configurations if other < index), default=None)
        later = min((other for other in self._configurations if other > index), default=None)
        if earlier is not None and later is None:
            moved = configuration.voters() ^ self._configurations[earlier].voters()
            require(len(moved) <= 1, f"the configuration at {index} moves {sorted(moved)} at once")
