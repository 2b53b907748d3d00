"""Bugs that history knows, planted one at a time: a simulator that does not find them proves nothing.

A mutant replaces functions of the code under test while a run lasts, or makes the simulated shell or disk break its part of the
contract. Some narrow the swarm to worlds in which the bug matters, as whoever suspects such a bug would.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import msgspec

from discovery.raft import leader as leader_module
from discovery.raft.configuration import ChangeKind, ConfigurationChange, change_configuration
from discovery.raft.core import Raft
from discovery.raft.election_timer import ElectionTimer
from discovery.raft.leader import Leader
from discovery.raft.log import RaftLog
from discovery.raft.membership import Membership
from discovery.raft.messages import (
    AppendReply,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    Message,
    RequestVote,
    Server,
    SnapshotMeta,
    VoteReply,
    decode_configuration,
)
from discovery.raft.progress import Progress
from discovery.raft.quorum import reached_by_majority
from tests.simulation.machine import Machine

if TYPE_CHECKING:
    from tests.simulation.swarm import Swarm


@dataclass(frozen=True)
class Mutant:
    """Without arguments no bug at all. `replaced` maps (owner, name) to what stands there while the mutant lives."""

    name: str
    replaced: Mapping[tuple[Any, str], Any] = field(default_factory=dict)
    worlds: Mapping[str, Any] = field(default_factory=dict)
    """What the swarm must be like."""
    early: tuple[type, ...] = ()
    """Promises that leave before the disk has finished."""
    forgets_vote: bool = False
    forgets_term: bool = False
    compacts_before_saving: bool = False
    uses_snapshot_before_saving: bool = False
    believes_torn_writes: bool = False

    def swarm(self, drawn: Swarm) -> Swarm:
        return replace(drawn, **self.worlds)

    def leaves_early(self, message: Message) -> bool:
        return isinstance(message, self.early)

    def stored_hard_state(self, hard_state: HardState | None) -> HardState | None:
        if hard_state is None or self.forgets_term:
            return None
        return HardState(hard_state.term, "") if self.forgets_vote else hard_state

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            for (owner, name), value in self.replaced.items():
                stack.enter_context(patch.object(owner, name, value))
            yield


# leaders


def commits_older_terms(self: Leader, now: float) -> None:
    index = reached_by_majority(self._log.membership.voters, _match_of(self, self._log.persisted), 0)
    if index > self._log.committed:
        self._commit_to(index, now)


def counts_itself_unwritten(self: Leader, now: float) -> None:
    index = reached_by_majority(self._log.membership.voters, _match_of(self, self._log.last_index), 0)
    if index >= self._term_start and index > self._log.committed:
        self._commit_to(index, now)


def _match_of(leader: Leader, own: int) -> Callable[[str], int]:
    return lambda voter: own if voter == leader._server_id else leader.progress[voter].match


def reads_without_round(self: Leader, now: float) -> None:
    if self._rounds.has_waiting_reads() and self.has_committed():
        self._rounds.attach_reads(self._log.committed)
        self._rounds.confirm(self._rounds.last)


def reads_before_own_commit(self: Leader, now: float) -> None:
    if self._rounds.has_waiting_reads():
        self._begin_round(now)
        self._rounds.attach_reads(self._log.committed)
        self._confirm_rounds()


def trusts_lease_for_long(self: Leader, now: float) -> bool:
    if self._handed_over or self._log.applied < self._term_start:
        return False
    return self._is_only_voter() or now < self._rounds.confirmed_at + 10 * self._timings.heartbeat


def keeps_lease_in_transfer(self: Leader, now: float) -> bool:
    if self._log.applied < self._term_start:
        return False
    return self._is_only_voter() or now < self._rounds.confirmed_at + self._timings.lease


def tells_commit_beyond_match(self: Leader, now: float) -> int:
    number = self._rounds.begin(now)
    for peer in self.progress:
        self._send(Heartbeat(self._server_id, peer, self._term, self._log.committed, number))
    return number


def changes_too_early(*, own_commit: bool, one_at_a_time: bool) -> Callable[..., int]:
    """The leader's way to change members without one of its two guards."""
    original = Leader.propose_configuration

    def propose_configuration(self: Leader, change: ConfigurationChange, prev_index: int | None, now: float) -> int:
        with ExitStack() as stack:
            if not own_commit:
                stack.enter_context(patch.object(Leader, "has_committed", lambda self: True))
            if not one_at_a_time:
                stack.enter_context(patch.object(Membership, "index", 0))
            return original(self, change, prev_index, now)

    return propose_configuration


def changes_twice(current: Configuration, change: ConfigurationChange) -> Configuration:
    """Adding a voter that is there already adds it once more."""
    if change.kind is ChangeKind.ADD_VOTER and change.server_id in current.voters():
        return Configuration((*current.servers, Server(change.server_id, change.address)))
    return change_configuration(current, change)


def counts_voters_twice(self: Membership, entries: Sequence[Entry]) -> None:
    _append_configurations(self, entries)
    self.voters = CountedTwice([server.id for server in self.configuration.servers if server.voter])


class CountedTwice(frozenset[str]):
    """A set of voters that counts and lists whoever was named twice as two."""

    def __new__(cls, voters: Sequence[str]) -> CountedTwice:
        return super().__new__(cls, voters)

    def __init__(self, voters: Sequence[str]) -> None:
        self._listed = voters

    def __len__(self) -> int:
        return len(self._listed)

    def __iter__(self) -> Iterator[str]:
        return iter(self._listed)


_append_configurations = Membership.append


# followers


def votes_for_any_log(self: Raft, message: RequestVote) -> None:
    _on_request_vote(self, msgspec.structs.replace(message, last_index=1 << 40, last_term=1 << 40))


def votes_for_everyone(self: Raft, message: RequestVote) -> None:
    if not message.pre_vote:
        self.vote, self.leader_id = "", None
    _on_request_vote(self, message)


_on_request_vote = Raft._on_request_vote


def describes_no_members(self: Raft, index: int) -> SnapshotMeta:
    return msgspec.structs.replace(_describe_snapshot(self, index), configuration=Configuration(), configuration_index=0)


def describes_newest_members(self: Raft, index: int) -> SnapshotMeta:
    meta = _describe_snapshot(self, index)
    return msgspec.structs.replace(meta, configuration=self.configuration, configuration_index=self.configuration_index)


_describe_snapshot = Raft.describe_snapshot


def disowns_at_once(self: ElectionTimer, now: float, rank: int) -> None:
    self._loyalty, self.deadline = 0, now


# the log


def believes_late_completions(self: RaftLog, first: int) -> None:
    del self._entries[first - self.first_index :]
    self.written = min(self.written, first - 1)
    self.persisted = min(self.persisted, first - 1)


def keeps_fallen_configurations(self: Membership, entries: Sequence[Entry]) -> None:
    for entry in entries:
        if entry.kind is EntryKind.CONFIGURATION:
            self._history.append((entry.index, decode_configuration(entry.data)))
            self.voters = self.configuration.voters()


# progress


def believes_stale_refusals(self: Progress, prev_index: int, probe_next: int) -> None:
    self.next = max(1, min(prev_index, probe_next))


def applies_in_any_order(self: Machine, entry: Entry) -> Any:
    """Every other machine takes the commands of a block from behind."""
    if entry.kind is EntryKind.COMMAND and self.__dict__.setdefault("_number", next(_machines)) % 2:
        commands = msgspec.msgpack.decode(entry.data)
        entry = msgspec.structs.replace(entry, data=msgspec.msgpack.encode(commands[::-1]))
    return _apply(self, entry)


_apply = Machine.apply
_machines = itertools.count()

COMMIT, READS, LEASE = (Leader, "_maybe_commit"), (Leader, "start_reads"), (Leader, "lease_valid")
CHANGE, VOTE, DESCRIBE = (Leader, "propose_configuration"), (Raft, "_on_request_vote"), (Raft, "describe_snapshot")
MEMBERSHIP = (Membership, "append")

TWO_CHANGES = changes_too_early(own_commit=True, one_at_a_time=False)
EARLY_CHANGE = changes_too_early(own_commit=False, one_at_a_time=True)
COUNTED_TWICE = {(leader_module, "change_configuration"): changes_twice, MEMBERSHIP: counts_voters_twice}

PAUSES: dict[str, Any] = {"servers": 3, "clients": 5, "keys": 1, "think_time": 0.1, "loss": 0, "delay": 0.005}
PAUSES |= {"trouble": ("pause",), "trouble_interval": 2.0}
IDLE = {"servers": 3, "spares": 0, "clients": 2, "think_time": 4.0, "trouble": ("deafen",), "trouble_interval": 2.0}
CRASHES = {"trouble": ("crash",), "trouble_interval": 0.3, "fsync": 0.03, "snapshot_threshold": 5}
MEMBERS = {"servers": 3, "spares": 2, "trouble": ("members", "isolate", "crash"), "trouble_interval": 0.3}
REWRITES = {"servers": 3, "trouble": ("isolate", "stall"), "fsync": 0.03, "overlapping_writes": True, "think_time": 0.1}
RUMOURS = PAUSES | {"trouble": ("rumour",), "trouble_interval": 0.3, "lease_reads": True, "clock_skew": 0}
ELECTIONS = {"servers": 3, "trouble": ("crash", "isolate"), "trouble_interval": 0.3, "lease_reads": False, "keys": 1}

MUTANTS = [
    Mutant("vote not persisted", forgets_vote=True),
    Mutant("term not persisted", forgets_term=True),
    Mutant("vote granted before it is durable", early=(VoteReply,)),
    Mutant("votes asked for before the log is durable", early=(RequestVote,)),
    Mutant("append acknowledged before it is durable", early=(AppendReply,)),
    Mutant("leader counts itself before its own write", {COMMIT: counts_itself_unwritten}),
    Mutant("commit counted from an older term", {COMMIT: commits_older_terms}),
    Mutant("heartbeat tells a commit beyond what matches", {(Leader, "_begin_round"): tells_commit_beyond_match}),
    Mutant("every append truncates", {(RaftLog, "first_conflict"): lambda self, entries: 0}),
    Mutant("late completion of an overwritten write believed", {(RaftLog, "_truncate"): believes_late_completions}, REWRITES),
    Mutant("vote for a shorter log", {VOTE: votes_for_any_log}),
    Mutant("second vote in a term", {VOTE: votes_for_everyone}),
    Mutant("read answered without a round", {READS: reads_without_round}, {**PAUSES, "lease_reads": False}),
    Mutant("read answered before the own term's commit", {READS: reads_before_own_commit}, ELECTIONS),
    Mutant("lease too long", {LEASE: trusts_lease_for_long}, PAUSES),
    Mutant("lease survives a transfer", {LEASE: keeps_lease_in_transfer}),
    Mutant("a leader said to be gone loses its lease", {(ElectionTimer, "leader_is_gone"): disowns_at_once}, RUMOURS),
    Mutant("votes and pre-votes ignore a live leader", {(Raft, "_supports_leader"): lambda self: False}, IDLE),
    Mutant("fallen configuration stays in force", {MEMBERSHIP: keeps_fallen_configurations}, MEMBERS),
    Mutant("two member changes at a time", {CHANGE: TWO_CHANGES}),
    Mutant("member change before the own term's commit", {CHANGE: EARLY_CHANGE}, MEMBERS),
    Mutant("member added twice counts twice", COUNTED_TWICE, MEMBERS),
    Mutant("snapshot without the members", {DESCRIBE: describes_no_members}),
    Mutant("snapshot with later members", {DESCRIBE: describes_newest_members}, {**MEMBERS, "snapshot_threshold": 5}),
    Mutant("snapshot acknowledged before it is durable", uses_snapshot_before_saving=True),
    Mutant("log compacted before the snapshot is durable", worlds=CRASHES, compacts_before_saving=True),
    Mutant("torn write believed", worlds=CRASHES, believes_torn_writes=True),
    Mutant("stale refusal lowers next below match", {(Progress, "refused"): believes_stale_refusals}),
    Mutant("full window never looked into", {(Progress, "resume"): lambda self, last_index: None}),
    Mutant("failed snapshot never reported", {(Leader, "report_snapshot"): lambda self, peer, ok: None}),
    Mutant("apply is not deterministic", {(Machine, "apply"): applies_in_any_order}),
]
