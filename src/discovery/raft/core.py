"""The Raft protocol of one server, without any input or output of its own.

In go messages (`step`), time (`tick`, at the latest at `deadline`), proposals, finished writes (`persisted`) and finished
applications (`applied`). Out comes a `Ready`: what to write, what to send, what to apply, and in which order.

Here stand the rules for all servers, for followers and for candidates (paper, figure 2); those for leaders are in `leader`.
Departures from the paper (Ongaro & Ousterhout, extended version) and what they rest on: pre-vote and check-quorum
(dissertation 9.6, 6.2); leader stickiness, so that servers outside the cluster do not disturb it (4.2.3); refusals which
skip a whole term (5.3 of the paper, end); an entry of its own at the start of a term (8); ReadIndex and leases (6.4), see
`rounds`; membership by single servers, effective when appended (4.1), see `configuration`; leadership transfer (3.10).
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Sequence

import msgspec

from .configuration import ConfigurationChange, check_configuration
from .election_timer import ElectionTimer
from .errors import AlreadyBootstrapped, InvariantViolated, MalformedMessage, NotLeader
from .leader import Leader
from .membership import Membership
from .messages import (
    AppendEntries,
    AppendReply,
    Configuration,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    RequestVote,
    SnapshotMeta,
    SnapshotProgress,
    TimeoutNow,
    VoteReply,
    decode_configuration,
    encode_configuration,
)
from .options import Options
from .persistence import Persistence
from .progress import Progress
from .quorum import VoteResult, tally
from .ready import Ready
from .restart import log_from_storage

__all__ = ["Options", "Raft", "Ready", "Role"]


class Role(enum.StrEnum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Raft:
    """One server of a Raft cluster. Not thread-safe: one loop owns it. `now` is monotonic, in seconds."""

    def __init__(
        self,
        *,
        server_id: str,
        options: Options,
        hard_state: HardState,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
        rng: random.Random,
        now: float,
    ) -> None:
        """Starts from what is durable: term and vote, the newest snapshot and the log (as `storage.recovery` reconciles them).

        The log may begin before the end of the snapshot, but no gap may lie between them.
        """
        self.server_id = server_id
        self.options = options
        self.role = Role.FOLLOWER
        self.term = hard_state.term
        self.vote = hard_state.vote
        self.leader_id: str | None = None
        self.snapshot = snapshot
        """The newest durable snapshot."""
        self._timings = options.timings()
        self._now = now
        self._log = log_from_storage(snapshot, entries)
        self._persistence = Persistence(self._log, hard_state)
        self._leader: Leader | None = None
        self._votes: dict[str, bool] = {}
        self._timer = ElectionTimer(self._timings, rng, now=now, last_contact=self._possible_contact())
        self._installing: SnapshotMeta | None = None
        self._install_announced = False
        self._messages: list[Message] = []
        self._snapshots_to_send: list[InstallSnapshot] = []
        self._last_token = 0
        self._reads_released: list[tuple[int, int]] = []
        self._reads_failed: list[int] = []
        self._await_leader()

    def __repr__(self) -> str:
        return f"Raft({self.server_id}, {self.role} of term {self.term}, leader {self.leader_id}, {self._log!r})"

    # what the shell may read

    @property
    def commit_index(self) -> int:
        return self._log.committed

    @property
    def applied_index(self) -> int:
        return self._log.applied

    @property
    def persisted_index(self) -> int:
        return self._log.persisted

    @property
    def first_index(self) -> int:
        return self._log.first_index

    @property
    def last_index(self) -> int:
        return self._log.last_index

    @property
    def last_term(self) -> int:
        return self._log.last_term

    @property
    def configuration(self) -> Configuration:
        """The newest configuration, in force since it was appended, committed or not."""
        return self._log.membership.configuration

    @property
    def configuration_index(self) -> int:
        return self._log.membership.index

    @property
    def leader_contact(self) -> float:
        """When a leader was last heard of (on a follower)."""
        return self._timer.last_contact

    @property
    def progress(self) -> dict[str, Progress]:
        """What the leader knows of every server that it sends the log; empty unless we lead."""
        return self._leader.progress if self._leader is not None else {}

    @property
    def transfer_target(self) -> str | None:
        """Who is to take over our leadership; None again when that is given up."""
        return self._leader.transfer_target if self._leader is not None else None

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, None where the log does not reach (compacted, or not written yet)."""
        return self._log.term_at(index)

    def has_committed_in_term(self) -> bool:
        """Whether this leader knows everything its predecessors committed."""
        return self._leader is not None and self._leader.has_committed()

    def lease_valid(self, now: float) -> bool:
        """Whether the applied state may be read right now without asking anybody; see `Options.lease_timeout`."""
        return self._leader is not None and self._leader.lease_valid(now)

    def describe_snapshot(self, index: int) -> SnapshotMeta:
        """The meta data of a snapshot of the state at `index` (applied, not compacted), but for size and checksum.

        Not while a received snapshot is being installed: then the state is not the one at `applied_index`.
        """
        term = self._log.term_at(index)
        if term is None or index > self._log.applied or self._installing is not None:
            raise InvariantViolated(f"no snapshot can be taken at {index} of {self._log!r}, installing {self._installing}")
        configuration_index, configuration = self._log.membership.at(index)
        return SnapshotMeta(index, term, configuration, configuration_index)

    def deadline(self) -> float:
        """When `tick` has something to do; infinity for a server that only listens."""
        if self._leader is not None:
            return self._leader.deadline()
        return self._timer.deadline if self._may_campaign() else math.inf

    # what the shell asks for

    def bootstrap(self, configuration: Configuration) -> None:
        """Makes `configuration` the first entry of a virgin server; every server given the same one starts the same log.

        Raises AlreadyBootstrapped, ConfigurationRefused.
        """
        if self.term or self.last_index:
            raise AlreadyBootstrapped(f"term {self.term}, last index {self.last_index}")
        check_configuration(configuration)
        ordered = Configuration(tuple(sorted(configuration.servers, key=lambda server: server.id)))
        self._enter_term(1)
        self._log.append((Entry(1, 1, EntryKind.CONFIGURATION, encode_configuration(ordered)),))
        self._await_leader()

    def propose(self, data: bytes) -> tuple[int, int]:
        """Appends a command to the leader's log: (index, term) where it will be committed, if at all.

        The caller learns the end by watching what is applied at `index`: with `term` it is this one, with another it surely
        never will be. Raises NotLeader, ProposalRefused.
        """
        return self._require_leader().propose(data), self.term

    def propose_configuration(self, change: ConfigurationChange, prev_index: int | None = None) -> tuple[int, int]:
        """Appends the configuration that `change` leads to: (index, term), of the present one when it changes nothing.

        With `prev_index` only if `configuration_index` still is that. Raises NotLeader, ProposalRefused (try again later),
        ConfigurationRefused.
        """
        index = self._require_leader().propose_configuration(change, prev_index, self._now)
        return index, self._log.term_at(index) or 0

    def read_index(self, now: float) -> int:
        """Asks for a linearizable read; the token comes back in a Ready with the index to wait for. Raises NotLeader."""
        leader = self._require_leader()
        self._now = now
        self._last_token += 1
        leader.read(self._last_token)
        return self._last_token

    def transfer_leadership(self, target: str | None, now: float) -> None:
        """Hands over to `target`, or to the most advanced other voter; proposals are refused until it is done or given up.

        Another target replaces a pending one. Raises NotLeader, TransferRefused.
        """
        leader = self._require_leader()
        self._now = now
        leader.transfer(target, now)

    def report_unreachable(self, peer: str) -> None:
        """Messages to `peer` were lost: what is not acknowledged will be sent again, carefully."""
        if self._leader is not None:
            self._leader.report_unreachable(peer)

    def report_gone(self, peer: str, now: float) -> None:
        """The process of `peer` has ended, as far as can be told. If it led, nobody need wait for its silence to last.

        Should the report be wrong, an election is disturbed, but no promise broken; see `options.GONE_AFTER_LEASES`.
        """
        self._now = now
        if self.role is Role.FOLLOWER and self.leader_id == peer:
            heirs = sorted(self._log.membership.voters - {peer})
            self._timer.leader_is_gone(now, heirs.index(self.server_id) if self.server_id in heirs else len(heirs))

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """The stream of a snapshot to `peer` ended, delivered or not."""
        if self._leader is not None:
            self._leader.report_snapshot(peer, ok=ok)

    def compact(self, meta: SnapshotMeta, trailing: int) -> int:
        """`meta` is durable: forgets the log before its end but for `trailing` entries.

        Returns the index up to which the stored log may be deleted.
        """
        if meta.index > self._log.applied:
            raise InvariantViolated(f"snapshot at {meta.index} beyond applied {self._log.applied}")
        self._remember_snapshot(meta)
        self._log.compact(max(meta.index - trailing, self._log.base_index))
        self._log.membership.forget_before(meta.index)
        return self._log.base_index

    def snapshot_installed(self, meta: SnapshotMeta) -> None:
        """The state machine and the stored log now start from `meta`, as `Ready.install_snapshot` asked."""
        if meta != self._installing:
            raise InvariantViolated(f"snapshot {meta.index} installed, expected {self._installing}")
        self._installing = None
        self._remember_snapshot(meta)
        self._log.restore(meta.index, meta.term, Membership(meta.configuration_index, meta.configuration))
        self._await_leader()
        if self.leader_id is not None:
            self._acknowledge(self.leader_id, meta.index)

    def applied(self, index: int) -> None:
        """Everything up to `index` has been applied to the state machine."""
        self._log.applied_to(index)

    def persisted(self, write_id: int) -> None:
        """The write of the Ready with this id, and all before it, are durable."""
        self._persistence.finish(write_id)
        if self._leader is not None:
            self._leader.persisted(self._now)
            self._resign_if_over()
        elif self.role is Role.CANDIDATE and self._persistence.durable == HardState(self.term, self.server_id):
            self._count_vote(self.server_id, granted=True)

    def tick(self, now: float) -> None:
        """Does what is due. A tick that comes late does it once, and silence during the lateness is not held against anyone."""
        self._now = now
        if self._leader is not None:
            self._leader.tick(now)
            self._resign_if_over()
        elif self._may_campaign() and self._timer.is_over(now):
            self._campaign_before_vote()

    def has_ready(self, *, write: bool = True) -> bool:
        """Whether `ready` may have something to give. Cheap, and never wrongly false."""
        log = self._log
        return bool(
            self._messages
            or log.handed < min(log.committed, log.persisted)
            or (write and self._persistence.has_waiting(HardState(self.term, self.vote)))
            or (self._leader is not None and self._leader.has_ready(self._now))
            or self._snapshots_to_send
            or self._reads_released
            or self._reads_failed
            or (self._installing is not None and not self._install_announced)
        )

    def ready(self, *, write: bool = True) -> Ready | None:
        """What is to be done now, None if nothing. With `write` false everything that needs the disk is held back.

        A shell that calls it with false while a write is under way, and with true when it has finished, commits in groups.
        """
        ready = Ready()
        if self._leader is not None:
            self._leader.start_reads(self._now)
            self._leader.replicate(self._now)
            self._reads_released += self._leader.take_released_reads()
        ready.messages, self._messages = self._messages, []
        if write:
            self._persistence.start(ready, HardState(self.term, self.vote), with_entries=self._installing is None)
        ready.snapshots_to_send, self._snapshots_to_send = self._snapshots_to_send, []
        ready.reads, self._reads_released = self._reads_released, []
        ready.reads_failed, self._reads_failed = self._reads_failed, []
        if self._installing is None:
            ready.committed = self._log.next_committed(self.options.max_apply_bytes)
        elif not self._install_announced:
            ready.install_snapshot, self._install_announced = self._installing, True
        return None if ready.is_empty else ready

    def step(self, message: Message, now: float) -> None:
        """Takes a message of a peer. Raises MalformedMessage when no correct server can have sent it."""
        if message.target != self.server_id or message.sender == self.server_id:
            return
        self._now = now
        if message.term > self.term and not self._enter_term_of(message):
            return
        if message.term < self.term:
            self._answer_stale(message)
            return
        match message:
            case AppendEntries():
                self._hear_leader(message.sender)
                self._on_append(message)
            case Heartbeat():
                self._hear_leader(message.sender)
                self._on_heartbeat(message)
            case InstallSnapshot():
                self._hear_leader(message.sender)
                self._on_install_snapshot(message)
            case SnapshotProgress():
                self._hear_leader(message.sender)
            case AppendReply() if self._leader is not None:
                self._leader.on_append_reply(message, now)
                self._resign_if_over()
            case HeartbeatReply() if self._leader is not None:
                self._leader.on_heartbeat_reply(message, now)
            case RequestVote():
                self._on_request_vote(message)
            case VoteReply():
                self._on_vote_reply(message)
            case TimeoutNow():
                self._on_timeout_now(message)
            case _:
                pass

    # all servers: terms

    def _enter_term_of(self, message: Message) -> bool:
        """Adopts the higher term of a message where that is right; tells whether the message is to be handled at all."""
        match message:
            case RequestVote() if not message.transfer and self._supports_leader():
                return False
            case RequestVote(pre_vote=True) | VoteReply(pre_vote=True, granted=True):
                return True
            case _:
                self._become_follower(message.term)
                return True

    def _answer_stale(self, message: Message) -> None:
        """A sender in an older term that acts as leader, or would like to become one, is told the term; no other is.

        Without this a deposed leader and a candidate that went ahead alone could ignore each other for ever.
        """
        match message:
            case AppendEntries() | Heartbeat() | InstallSnapshot() | SnapshotProgress():
                self._reply_in_term(HeartbeatReply(self.server_id, message.sender, self.term, 0))
            case RequestVote(pre_vote=True):
                self._reply_in_term(VoteReply(self.server_id, message.sender, self.term, granted=False, pre_vote=True))
            case _:
                pass

    def _supports_leader(self) -> bool:
        return self._leader is not None or self._timer.supports_leader(self._now)

    def _enter_term(self, term: int, vote: str = "") -> None:
        """Promises of an earlier term that have not left yet never will."""
        if term <= self.term:
            raise InvariantViolated(f"term {term} after {self.term}")
        self.term, self.vote = term, vote
        self._persistence.withdraw()

    def _become_follower(self, term: int) -> None:
        """A follower that merely learns of a term keeps its patience: the sender of it need not be fit to lead (paper, 5.2)."""
        if term > self.term:
            self._enter_term(term)
        if self.role is not Role.FOLLOWER:
            self._leave_office()
            self.role = Role.FOLLOWER
            self._votes = {}
            self._persistence.withdraw()
            self._await_leader()
        self.leader_id = None

    def _leave_office(self) -> None:
        if self._leader is not None:
            self._reads_released += self._leader.take_released_reads()
            self._reads_failed += self._leader.abandoned_reads()
            self._leader = None

    def _resign_if_over(self) -> None:
        if self._leader is not None and self._leader.over:
            self._become_follower(self.term)

    def _require_leader(self) -> Leader:
        if self._leader is None:
            raise NotLeader(self.leader_id)
        return self._leader

    def _hear_leader(self, sender: str) -> None:
        if self.leader_id not in (None, sender):
            raise InvariantViolated(f"two leaders in term {self.term}: {self.leader_id} and {sender}")
        if self.role is not Role.FOLLOWER:
            self._become_follower(self.term)
        self.leader_id = sender
        self._timer.heard_leader(self._now)

    def _reply_in_term(self, reply: Message) -> None:
        """An answer that promises nothing, but reveals our term: it waits for the disk only when that term is new."""
        if self._persistence.durable.term == self.term:
            self._messages.append(reply)
        else:
            self._persistence.promise(reply)

    def _send(self, message: Message) -> None:
        if isinstance(message, InstallSnapshot):
            self._snapshots_to_send.append(message)
        else:
            self._messages.append(message)

    # candidates: elections

    def _possible_contact(self) -> float:
        """When a leader may have been heard of before a restart: just now, and what was promised to it is kept. Only who never
        took part, or never had others to elect, promised nothing to anybody."""
        alone = self._log.membership.ever_named() == {self.server_id}
        return -math.inf if alone or self.term == 0 else self._now

    def _await_leader(self) -> None:
        self._timer.await_leader(self._now, in_a_hurry=self._log.membership.voters == {self.server_id})

    def _may_campaign(self) -> bool:
        """Only voters campaign. A change that takes our vote counts once it is known to be committed: until then its log may
        be the one that is needed, and nobody else be able to win (dissertation, 4.2.2)."""
        if self._installing is not None:
            return False
        membership = self._log.membership
        if self.server_id in membership.voters:
            return True
        return membership.index > self._log.committed and self.server_id in membership.voters_before

    def _campaign_before_vote(self) -> None:
        """Asks whether an election could be won, without disturbing anyone's term (dissertation, 9.6)."""
        self._become_candidate(Role.PRE_CANDIDATE)
        for request in self._vote_requests(self.term + 1, pre_vote=True):
            self._messages.append(request)
        self._count_vote(self.server_id, granted=True)

    def _campaign(self, *, transfer: bool) -> None:
        """Starts an election. Our own vote counts, and the others are asked, once it is durable with the log we boast of."""
        self._become_candidate(Role.CANDIDATE)
        self._enter_term(self.term + 1, vote=self.server_id)
        for request in self._vote_requests(self.term, transfer=transfer):
            self._persistence.promise(request)

    def _become_candidate(self, role: Role) -> None:
        if self.role is Role.LEADER:
            raise InvariantViolated(f"leader of term {self.term} campaigns")
        self.role = role
        self.leader_id = None
        self._votes = {}
        self._timer.await_result(self._now)

    def _vote_requests(self, term: int, *, pre_vote: bool = False, transfer: bool = False) -> list[RequestVote]:
        last_index, last_term = self._log.last_index, self._log.last_term
        peers = sorted(self._log.membership.voters - {self.server_id})
        return [RequestVote(self.server_id, peer, term, last_index, last_term, pre_vote, transfer) for peer in peers]

    def _on_request_vote(self, message: RequestVote) -> None:
        """Grants to a candidate whose log is at least as good as ours, once per term, and only while no leader is known.

        A server unknown to our configuration is refused, unless its log reaches beyond ours: then it may know better.
        """
        asked, ours = (message.last_term, message.last_index), (self._log.last_term, self._log.last_index)
        free = self.vote == message.sender or (not self.vote and self.leader_id is None)
        free = free or (message.pre_vote and message.term > self.term)
        known = not self.configuration.servers or self.configuration.get(message.sender) is not None
        granted = free and (asked > ours or (asked == ours and known))
        term = message.term if granted else self.term
        reply = VoteReply(self.server_id, message.sender, term, granted, message.pre_vote)
        if message.pre_vote:
            self._reply_in_term(reply)
            return
        if granted:
            self.vote = message.sender
            self._timer.restart(self._now)
        self._persistence.promise(reply)

    def _on_vote_reply(self, message: VoteReply) -> None:
        if message.pre_vote:
            expected = self.role is Role.PRE_CANDIDATE and (not message.granted or message.term == self.term + 1)
        else:
            expected = self.role is Role.CANDIDATE
        if expected:
            self._count_vote(message.sender, granted=message.granted)

    def _count_vote(self, voter: str, *, granted: bool) -> None:
        self._votes.setdefault(voter, granted)
        match tally(self._log.membership.voters, self._votes):
            case VoteResult.WON if self.role is Role.PRE_CANDIDATE:
                self._campaign(transfer=False)
            case VoteResult.WON:
                self._become_leader()
            case VoteResult.LOST:
                self._become_follower(self.term)
            case VoteResult.PENDING:
                pass

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        if self.leader_id == message.sender and self._may_campaign():
            self._campaign(transfer=True)

    def _become_leader(self) -> None:
        if self.role is not Role.CANDIDATE:
            raise InvariantViolated(f"{self.role} becomes leader of term {self.term}")
        self.role = Role.LEADER
        self.leader_id = self.server_id
        self._votes = {}
        self._leader = Leader(
            server_id=self.server_id,
            term=self.term,
            options=self.options,
            timings=self._timings,
            log=self._log,
            snapshot=self.snapshot,
            send=self._send,
            now=self._now,
        )

    # followers: the log

    def _on_append(self, message: AppendEntries) -> None:
        """Takes what follows on our log, acknowledges what the message proves to be equal (paper, figure 2: AppendEntries)."""
        if self._installing is not None:
            return
        log, entries = self._log, _checked_entries(message)
        prev_index, prev_term = message.prev_index, message.prev_term
        if prev_index < log.committed:
            # The leader holds everything committed, so up to there the logs are equal without looking.
            entries = entries[log.committed - prev_index :]
            prev_index, prev_term = log.committed, log.term_at(log.committed) or 0
        if log.term_at(prev_index) != prev_term:
            self._refuse(message.sender, prev_index, prev_term)
            return
        fresh = entries[log.first_conflict(entries) :]
        if fresh:
            log.append(fresh)
        proven = prev_index + len(entries)
        log.commit_to(max(log.committed, min(message.commit, proven)))
        self._acknowledge(message.sender, proven)

    def _on_heartbeat(self, message: Heartbeat) -> None:
        if self._installing is None:
            self._log.commit_to(message.commit)
        self._reply_in_term(HeartbeatReply(self.server_id, message.sender, self.term, message.sequence))

    def _refuse(self, leader: str, prev_index: int, prev_term: int) -> None:
        hint_index, hint_term = self._log.hint(prev_index, prev_term)
        self._persistence.promise(AppendReply(self.server_id, leader, self.term, False, prev_index, hint_index, hint_term))

    def _acknowledge(self, leader: str, index: int) -> None:
        self._persistence.promise(AppendReply(self.server_id, leader, self.term, True, index))

    # followers: snapshots

    def _on_install_snapshot(self, message: InstallSnapshot) -> None:
        """Takes a snapshot that is ahead of us; one that our log already contains only tells what is committed."""
        meta = message.meta
        if self._installing is not None:
            return
        if meta.index > self._log.committed and self._log.term_at(meta.index) != meta.term:
            # Entries that have not reached the disk never will, nor what would have been said of them.
            self._persistence.withdraw()
            self._installing, self._install_announced = meta, False
            return
        if meta.index > self._log.applied:
            self._remember_snapshot(meta)
        self._log.commit_to(max(meta.index, self._log.committed))
        self._acknowledge(message.sender, self._log.committed)

    def _remember_snapshot(self, meta: SnapshotMeta) -> None:
        if self.snapshot is None or meta.index > self.snapshot.index:
            self.snapshot = meta
        if self._leader is not None:
            self._leader.snapshot = self.snapshot


def _checked_entries(message: AppendEntries) -> tuple[Entry, ...]:
    """The entries of an append, if they follow on each other and none comes from the future."""
    term = message.prev_term
    for index, entry in enumerate(message.entries, message.prev_index + 1):
        if entry.index != index or not term <= entry.term <= message.term:
            raise MalformedMessage(f"entry {entry.index}@{entry.term} cannot stand at {index} in an append of {message.term}")
        term = entry.term
        if entry.kind is EntryKind.CONFIGURATION:
            _check_configuration_entry(entry)
    return message.entries


def _check_configuration_entry(entry: Entry) -> None:
    try:
        decode_configuration(entry.data)
    except msgspec.DecodeError as error:
        raise MalformedMessage(f"the configuration at {entry.index} cannot be read: {error}") from error
