"""The Raft protocol of one server, without any input or output of its own.

In go messages (`step`), time (`tick`, at the latest at `deadline`), proposals, finished writes (`persisted`) and finished
applications (`applied`). Out comes a `Ready`: what to write, what to send, what to apply. The rules about its order:

 * `messages` leave at once. A leader's appends are among them: it writes while its followers write, and counts itself only
   when its own write is reported (dissertation, 10.2.1).
 * `messages_after_persist` are promises (votes, acknowledgements, the vote requests of a candidate): they leave after the
   Ready's own write and all earlier ones are durable.
 * Writes become durable in the order of their `write_id`.
 * Entries are handed out for applying once committed and durable here.

Departures from the paper (Ongaro & Ousterhout, extended version) and what they rest on: pre-vote and check-quorum
(dissertation 9.6, 6.2); leader stickiness, so that servers outside the cluster do not disturb it (4.2.3); refusals which
skip a whole term (5.3 of the paper, end); an entry of its own at the start of a term (8); ReadIndex and leases (6.4);
membership by single servers, effective when appended, and never before the term's first entry is committed (4.1 and the
correction of 2015); leadership transfer (3.10). The lease rests on clocks whose rates differ by less than
heartbeat_timeout / lease_timeout.
"""

from __future__ import annotations

import enum
import math
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from .configuration import ConfigurationChange, change_configuration, check_configuration
from .errors import (
    AlreadyBootstrapped,
    ConfigurationRefused,
    InvariantViolated,
    MalformedMessage,
    NotLeader,
    ProposalRefused,
    TransferRefused,
)
from .log import RaftLog, entry_size
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
from .progress import Progress, ProgressState, Window
from .quorum import VoteResult, reached_by_majority, tally


class Role(enum.StrEnum):
    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre-candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Timeouts in seconds with Consul's meaning, each multiplied by `raft_multiplier`; sizes in bytes."""

    heartbeat_timeout: float = 1.0
    """A follower waits one to two of these without its leader before it campaigns; the leader sends ten."""
    election_timeout: float = 1.0
    """A candidate waits one to two of these for the result; a transfer is given up after one."""
    lease_timeout: float = 0.5
    """A leader that has not heard from a majority for this long steps down."""
    write_timeout: float = 5.0
    """A leader whose disk has not finished a write for this long steps down."""
    raft_multiplier: int = 1
    max_inflight_messages: int = 64
    max_inflight_bytes: int = 8 << 20
    max_message_bytes: int = 1 << 20
    max_uncommitted_bytes: int = 64 << 20
    """Proposals waiting for commit beyond this are refused."""
    max_apply_bytes: int = 4 << 20
    """Size of one page of committed entries."""

    def __post_init__(self) -> None:
        if not 0.005 <= self.lease_timeout <= self.heartbeat_timeout <= self.election_timeout:
            raise ValueError("5 ms <= lease_timeout <= heartbeat_timeout <= election_timeout does not hold")
        if not 1 <= self.raft_multiplier <= 10:
            raise ValueError(f"raft_multiplier {self.raft_multiplier} is not within 1..10")


@dataclass(slots=True, kw_only=True)
class Ready:
    """What has to be done now, each part once. The order is told at the top of this module."""

    write_id: int | None = None
    """To be given to `Raft.persisted` when everything to write here is durable; None when nothing waits for the disk.
    With an id but nothing to write (`must_sync` false) only the writes before it are waited for."""
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    """To be stored in one atomic write with `hard_state`, replacing everything from the first one's index on."""
    messages: list[Message] = field(default_factory=list)
    messages_after_persist: list[Message] = field(default_factory=list)
    committed: tuple[Entry, ...] = ()
    reads: list[tuple[int, int]] = field(default_factory=list)
    """(token, index): the read may be answered from a state that has applied `index`."""
    reads_failed: list[int] = field(default_factory=list)
    """Tokens of reads that a lost leadership leaves unanswered."""
    snapshots_to_send: list[InstallSnapshot] = field(default_factory=list)
    """Headers of snapshots to stream to their targets; each is answered by `Raft.report_snapshot`."""
    install_snapshot: SnapshotMeta | None = None
    """Restart the stored log after this snapshot, restore it, then call `Raft.snapshot_installed`."""

    @property
    def must_sync(self) -> bool:
        return self.hard_state is not None or bool(self.entries)


@dataclass(slots=True)
class _Write:
    write_id: int
    hard_state: HardState
    started: float


@dataclass(slots=True)
class _ReadRound:
    sequence: int
    index: int
    tokens: list[int]


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
        """The newest durable snapshot, sent to followers that need compacted entries."""
        self.progress: dict[str, Progress] = {}
        """Leader only: every other server that is sent the log."""
        self.transfer_target: str | None = None
        """Leader only: who is to take over; None again when done or given up."""

        multiplier = options.raft_multiplier
        self._heartbeat_timeout = options.heartbeat_timeout * multiplier
        self._election_timeout = options.election_timeout * multiplier
        self._lease_timeout = options.lease_timeout * multiplier
        self._write_timeout = options.write_timeout * multiplier
        self._heartbeat_interval = self._heartbeat_timeout / 10

        self._rng = rng
        self._now = now
        self._log = _log_from_storage(snapshot, entries)
        self._configurations = _configurations_from_storage(snapshot, entries)

        self._messages: list[Message] = []
        self._promises: list[Message] = []
        self._snapshots_to_send: list[InstallSnapshot] = []
        self._installing: SnapshotMeta | None = None
        self._install_announced = False

        self._last_write_id = 0
        self._writes: deque[_Write] = deque()
        self._written_state = hard_state
        self._durable_state = hard_state

        # A server that restarts may have supported a leader just before: it keeps that promise. One that never knew of
        # other voters promised nothing to anybody.
        alone = all(configuration.voters() <= {server_id} for _, configuration in self._configurations)
        self._leader_contact = -math.inf if alone else now
        self._follower_patience = math.inf
        self._election_deadline = math.inf
        self._excused_late = False
        self._votes: dict[str, bool] = {}

        self._term_start = 0
        self._uncommitted_bytes = 0
        self._heartbeat_due = math.inf
        self._quorum_excuse = -math.inf
        self._transfer_deadline = math.inf
        self._handover_sent = False
        self._sequence = 0
        self._rounds_sent: deque[tuple[int, float]] = deque()
        self._lease_start = -math.inf
        self._last_token = 0
        self._reads_waiting: list[int] = []
        self._read_rounds: deque[_ReadRound] = deque()
        self._reads_failed: list[int] = []
        self._draw_election_deadline()

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
        """The latest configuration, in force since it was appended, committed or not."""
        return self._configurations[-1][1]

    @property
    def configuration_index(self) -> int:
        return self._configurations[-1][0]

    @property
    def leader_contact(self) -> float:
        """When a leader was last heard of (on a follower)."""
        return self._leader_contact

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`, None where the log does not reach (compacted, or not written yet)."""
        return self._log.term_at(index)

    def has_committed_in_term(self) -> bool:
        """Whether this leader knows everything its predecessors committed."""
        return self.role is Role.LEADER and self._log.committed >= self._term_start

    def describe_snapshot(self, index: int) -> SnapshotMeta:
        """The meta data of a snapshot of the state at `index` (applied, not compacted), but for size and checksum."""
        term = self._log.term_at(index)
        if term is None or index > self._log.applied:
            raise InvariantViolated(f"no snapshot can be taken at {index} of {self._log!r}")
        configuration_index, configuration = next(pair for pair in reversed(self._configurations) if pair[0] <= index)
        return SnapshotMeta(index, term, configuration, configuration_index)

    def lease_valid(self, now: float) -> bool:
        """Whether the applied state may be read right now without asking anybody: surely no other leader can exist yet.

        The lease runs from the sending of the newest heartbeat round that a majority answered, and is given up for the rest
        of the term once leadership is offered to another.
        """
        if self.role is not Role.LEADER or self._handover_sent or self._log.applied < self._term_start:
            return False
        return self._only_voter() or now < self._lease_start + self._lease_timeout

    def deadline(self) -> float:
        """When `tick` has something to do; infinity for a server that only listens."""
        if self.role is Role.LEADER:
            return min(self._heartbeat_due, self._transfer_deadline)
        return self._election_deadline if self._may_campaign() else math.inf

    # what the shell asks for

    def bootstrap(self, configuration: Configuration) -> None:
        """Makes `configuration` the first entry of a virgin server; every server given the same one starts the same log.

        Raises AlreadyBootstrapped, ConfigurationRefused.
        """
        if self.term or self.last_index:
            raise AlreadyBootstrapped(f"term {self.term}, last index {self.last_index}")
        check_configuration(configuration)
        ordered = Configuration(tuple(sorted(configuration.servers, key=lambda server: server.id)))
        self.term = 1
        self._append((Entry(1, 1, EntryKind.CONFIGURATION, encode_configuration(ordered)),))
        self._draw_election_deadline()

    def propose(self, data: bytes) -> tuple[int, int]:
        """Appends a command to the leader's log: (index, term) where it will be committed, if at all.

        The caller learns the end by watching what is applied at `index`: with `term` it is this one, with another it surely
        never will be. Raises NotLeader, ProposalRefused.
        """
        self._require_open_leader()
        entry = Entry(self.last_index + 1, self.term, EntryKind.COMMAND, data)
        size = entry_size(entry)
        if self._uncommitted_bytes and self._uncommitted_bytes + size > self.options.max_uncommitted_bytes:
            raise ProposalRefused(f"{self._uncommitted_bytes} bytes of proposals wait for commit")
        self._uncommitted_bytes += size
        self._append((entry,))
        return entry.index, entry.term

    def propose_configuration(self, change: ConfigurationChange, prev_index: int | None = None) -> tuple[int, int]:
        """Appends the configuration that `change` leads to: (index, term), of the present one when it changes nothing.

        With `prev_index` only if `configuration_index` still is that. Raises NotLeader, ProposalRefused (try again later),
        ConfigurationRefused.
        """
        self._require_open_leader()
        if not self.has_committed_in_term():
            raise ProposalRefused("nothing is committed in this term yet")
        if self.configuration_index > self._log.committed:
            raise ProposalRefused(f"the membership change at {self.configuration_index} is not committed yet")
        if prev_index is not None and prev_index != self.configuration_index:
            raise ConfigurationRefused(f"the configuration has moved from {prev_index} to {self.configuration_index}")
        following = change_configuration(self.configuration, change)
        if following == self.configuration:
            return self.configuration_index, self._log.term_at(self.configuration_index) or 0
        index = self.last_index + 1
        self._append((Entry(index, self.term, EntryKind.CONFIGURATION, encode_configuration(following)),))
        self._track_new_members()
        return index, self.term

    def read_index(self, now: float) -> int:
        """Asks for a linearizable read; the token comes back in a Ready with the index to wait for. Raises NotLeader."""
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader_id)
        self._now = now
        self._last_token += 1
        self._reads_waiting.append(self._last_token)
        return self._last_token

    def transfer_leadership(self, target: str | None, now: float) -> None:
        """Hands over to `target`, or to the most advanced other voter; proposals are refused until it is done or given up.

        Another target replaces a pending one. Raises NotLeader, TransferRefused.
        """
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader_id)
        candidates = self.configuration.voters() - {self.server_id}
        if target is None:
            target = max(sorted(candidates), key=lambda peer: self.progress[peer].match, default=None)
        if target is None or target not in candidates:
            raise TransferRefused(f"{target or 'nobody'} is not another voter")
        if target == self.transfer_target:
            return
        self._now = now
        self.transfer_target = target
        self._transfer_deadline = now + self._election_timeout
        self._maybe_hand_over(target)

    def report_unreachable(self, peer: str) -> None:
        """Messages to `peer` were lost: what is not acknowledged will be sent again, carefully."""
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe(progress.match + 1)

    def report_snapshot(self, peer: str, ok: bool) -> None:
        """The stream of a snapshot to `peer` ended, delivered or not."""
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            reached = max(progress.match, progress.pending_snapshot if ok else 0)
            progress.become_probe(reached + 1, wait=True)

    def compact(self, meta: SnapshotMeta, trailing: int) -> int:
        """`meta` is durable: forgets the log before its end but for `trailing` entries.

        Returns the index up to which the stored log may be deleted.
        """
        if meta.index > self._log.applied:
            raise InvariantViolated(f"snapshot at {meta.index} beyond applied {self._log.applied}")
        if self.snapshot is None or meta.index > self.snapshot.index:
            self.snapshot = meta
        self._log.compact(max(meta.index - trailing, self._log.base_index))
        self._forget_configurations_before(meta.index)
        return self._log.base_index

    def snapshot_installed(self, meta: SnapshotMeta) -> None:
        """The state machine and the stored log now start from `meta`, as `Ready.install_snapshot` asked."""
        if meta != self._installing:
            raise InvariantViolated(f"snapshot {meta.index} installed, expected {self._installing}")
        self._installing = None
        self.snapshot = meta
        self._log.restore(meta.index, meta.term)
        self._configurations = [(meta.configuration_index, meta.configuration)]
        self._draw_election_deadline()
        if self.leader_id is not None:
            self._acknowledge(self.leader_id, meta.index)

    def applied(self, index: int) -> None:
        """Everything up to `index` has been applied to the state machine."""
        self._log.applied_to(index)

    def persisted(self, write_id: int) -> None:
        """The write of the Ready with this id, and all before it, are durable."""
        write = self._writes.popleft()
        if write.write_id != write_id:
            raise InvariantViolated(f"write {write_id} finished before write {write.write_id}")
        self._durable_state = write.hard_state
        self._log.finish_write()
        if self.role is Role.LEADER:
            self._maybe_commit()
        elif self.role is Role.CANDIDATE and self._durable_state == HardState(self.term, self.server_id):
            self._count_vote(self.server_id, granted=True)

    def tick(self, now: float) -> None:
        """Does what is due. A tick that comes late does it once, and silence during the lateness is not held against anyone."""
        self._now = now
        if self.role is Role.LEADER:
            self._tick_leader()
        elif now >= self.deadline():
            self._tick_election()

    def ready(self, *, write: bool = True) -> Ready | None:
        """What is to be done now, None if nothing. With `write` false everything that needs the disk is held back.

        A shell that calls it with false while a write is under way, and with true when it has finished, commits in groups.
        """
        if self.role is Role.LEADER:
            self._start_read_round()
            self._replicate()
        ready = Ready()
        if write:
            self._start_write(ready)
        ready.messages, self._messages = self._messages + ready.messages, []
        ready.snapshots_to_send, self._snapshots_to_send = self._snapshots_to_send, []
        ready.reads = self._released_reads()
        ready.reads_failed, self._reads_failed = self._reads_failed, []
        if self._installing is None:
            ready.committed = self._log.next_committed(self.options.max_apply_bytes)
        elif not self._install_announced:
            ready.install_snapshot, self._install_announced = self._installing, True
        return None if ready == Ready() else ready

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
            case AppendReply():
                self._on_append_reply(message)
            case Heartbeat():
                self._hear_leader(message.sender)
                self._on_heartbeat(message)
            case HeartbeatReply():
                self._on_heartbeat_reply(message)
            case RequestVote():
                self._on_request_vote(message)
            case VoteReply():
                self._on_vote_reply(message)
            case InstallSnapshot():
                self._hear_leader(message.sender)
                self._on_install_snapshot(message)
            case SnapshotProgress():
                self._hear_leader(message.sender)
            case TimeoutNow():
                self._on_timeout_now(message)

    # terms

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
        """Whether a leader was heard of within the shortest time after which anybody may replace it."""
        return self.role is Role.LEADER or self._now < self._leader_contact + self._heartbeat_timeout

    def _become_follower(self, term: int) -> None:
        if self.role is Role.LEADER:
            self._leave_office()
        if term > self.term:
            self.term, self.vote = term, ""
        self.role = Role.FOLLOWER
        self.leader_id = None
        self._votes = {}
        self._draw_election_deadline()

    def _leave_office(self) -> None:
        self.progress = {}
        self._end_transfer()
        self._reads_failed += self._reads_waiting
        for read_round in self._read_rounds:
            self._reads_failed += read_round.tokens
        self._reads_waiting = []
        self._read_rounds.clear()
        self._rounds_sent.clear()
        self._lease_start = -math.inf
        self._heartbeat_due = math.inf
        self._uncommitted_bytes = 0

    def _hear_leader(self, sender: str) -> None:
        if self.leader_id not in (None, sender):
            raise InvariantViolated(f"two leaders in term {self.term}: {self.leader_id} and {sender}")
        if self.role is not Role.FOLLOWER:
            self._become_follower(self.term)
        self.leader_id = sender
        self._leader_contact = self._now
        self._excused_late = False
        self._election_deadline = self._now + self._follower_patience

    # elections

    def _may_campaign(self) -> bool:
        """Only voters campaign. A change that takes our vote counts once it is known to be committed: until then its log may
        be the one that is needed, and nobody else be able to win (dissertation, 4.2.2)."""
        if self._installing is not None:
            return False
        if self.server_id in self.configuration.voters():
            return True
        undecided = len(self._configurations) > 1 and self.configuration_index > self._log.committed
        return undecided and self.server_id in self._configurations[-2][1].voters()

    def _only_voter(self) -> bool:
        return self.configuration.voters() == {self.server_id}

    def _draw_election_deadline(self) -> None:
        """A new random patience; the only voter has nobody to wait for but a leader it still supports."""
        self._follower_patience = self._rng.uniform(1, 2) * self._heartbeat_timeout
        self._excused_late = False
        if self._only_voter():
            self._election_deadline = max(self._now, self._leader_contact + self._heartbeat_timeout)
        else:
            self._election_deadline = self._now + self._follower_patience

    def _tick_election(self) -> None:
        """Campaigns, unless this server itself was asleep: then the leader's messages may still wait to be read."""
        if self._is_late(self._election_deadline) and not self._excused_late:
            self._excused_late = True
            self._election_deadline = self._now + self._heartbeat_interval
            return
        self._campaign_before_vote()

    def _is_late(self, due: float) -> bool:
        return self._now - due > self._heartbeat_interval

    def _campaign_before_vote(self) -> None:
        """Asks whether an election could be won, without disturbing anyone's term."""
        self._become_candidate(Role.PRE_CANDIDATE)
        self._request_votes(self._messages, self.term + 1, pre_vote=True)
        self._count_vote(self.server_id, granted=True)

    def _campaign(self, *, transfer: bool) -> None:
        """Starts an election. Our own vote counts, and the others are asked, once it is durable with the log we boast of."""
        self._become_candidate(Role.CANDIDATE)
        self.term += 1
        self.vote = self.server_id
        self._request_votes(self._promises, self.term, transfer=transfer)

    def _become_candidate(self, role: Role) -> None:
        if self.role is Role.LEADER:
            raise InvariantViolated(f"leader of term {self.term} campaigns")
        self.role = role
        self.leader_id = None
        self._votes = {}
        self._election_deadline = self._now + self._rng.uniform(1, 2) * self._election_timeout

    def _request_votes(self, outbox: list[Message], term: int, *, pre_vote: bool = False, transfer: bool = False) -> None:
        last_index, last_term = self._log.last_index, self._log.last_term
        for peer in sorted(self.configuration.voters() - {self.server_id}):
            outbox.append(RequestVote(self.server_id, peer, term, last_index, last_term, pre_vote, transfer))

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
            self._election_deadline = self._now + self._follower_patience
        self._promises.append(reply)

    def _on_vote_reply(self, message: VoteReply) -> None:
        if message.pre_vote:
            expected = self.role is Role.PRE_CANDIDATE and (not message.granted or message.term == self.term + 1)
        else:
            expected = self.role is Role.CANDIDATE
        if expected:
            self._count_vote(message.sender, granted=message.granted)

    def _count_vote(self, voter: str, *, granted: bool) -> None:
        self._votes.setdefault(voter, granted)
        match tally(self.configuration.voters(), self._votes):
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

    # leadership

    def _become_leader(self) -> None:
        """Takes office with an entry of its own term: only by it are the entries of earlier terms committed (paper, 5.4.2)."""
        if self.role is not Role.CANDIDATE:
            raise InvariantViolated(f"{self.role} becomes leader of term {self.term}")
        self.role = Role.LEADER
        self.leader_id = self.server_id
        self._votes = {}
        self._handover_sent = False
        self._quorum_excuse = -math.inf
        self._track_new_members()
        self._term_start = self.last_index + 1
        self._append((Entry(self._term_start, self.term, EntryKind.NOOP, b""),))
        self._send_heartbeats()

    def _track_new_members(self) -> None:
        """Members that leave stay tracked until their leaving is committed, so that they hear of it."""
        for server in self.configuration.servers:
            if server.id != self.server_id and server.id not in self.progress:
                window = Window(self.options.max_inflight_messages, self.options.max_inflight_bytes)
                self.progress[server.id] = Progress(next_index=self.last_index + 1, now=self._now, window=window)

    def _require_open_leader(self) -> None:
        if self.role is not Role.LEADER:
            raise NotLeader(self.leader_id)
        if self.transfer_target is not None:
            raise ProposalRefused(f"leadership is being transferred to {self.transfer_target}")

    def _tick_leader(self) -> None:
        if self._now >= self._transfer_deadline:
            self._end_transfer()
        if self._now < self._heartbeat_due:
            return
        late = self._is_late(self._heartbeat_due)
        if self._has_lost_quorum(late) or self._is_disk_stuck():
            self._become_follower(self.term)
        else:
            self._send_heartbeats()

    def _has_lost_quorum(self, late: bool) -> bool:
        """Whether a majority was silent for the lease timeout; a sleep of our own counts as one heartbeat interval, once."""
        contact = reached_by_majority(self.configuration.voters(), self._contact_of, -math.inf)
        if late and contact > self._quorum_excuse:
            self._quorum_excuse = self._now - self._heartbeat_interval
        return self._now - max(contact, self._quorum_excuse) >= self._lease_timeout

    def _contact_of(self, voter: str) -> float:
        return self._now if voter == self.server_id else self.progress[voter].last_contact

    def _is_disk_stuck(self) -> bool:
        return bool(self._writes) and self._now - self._writes[0].started >= self._write_timeout

    def _send_heartbeats(self) -> None:
        self._sequence += 1
        self._rounds_sent.append((self._sequence, self._now))
        self._heartbeat_due = self._now + self._heartbeat_interval
        for peer, progress in self.progress.items():
            commit = min(progress.match, self._log.committed)
            self._messages.append(Heartbeat(self.server_id, peer, self.term, commit, self._sequence))

    def _maybe_hand_over(self, peer: str) -> None:
        if peer == self.transfer_target and self.progress[peer].match == self.last_index:
            self._handover_sent = True
            self._messages.append(TimeoutNow(self.server_id, peer, self.term))

    def _end_transfer(self) -> None:
        self.transfer_target = None
        self._transfer_deadline = math.inf

    # replication, the leader's side

    def _replicate(self) -> None:
        for peer, progress in self.progress.items():
            while not progress.paused() and self._send_append(peer, progress):
                pass

    def _send_append(self, peer: str, progress: Progress) -> bool:
        """Sends the next entries, or an empty append when there is only a commit to tell; false if there was nothing."""
        prev_index = progress.next - 1
        prev_term = self._log.term_at(prev_index)
        if prev_term is None:
            self._send_snapshot(peer, progress)
            return False
        high = prev_index if progress.window.full() else self.last_index
        entries = self._log.slice(progress.next, high, self.options.max_message_bytes)
        if not entries and not progress.poked and progress.told_commit >= self._log.committed:
            return False
        self._messages.append(AppendEntries(self.server_id, peer, self.term, prev_index, prev_term, self._log.committed, entries))
        progress.sent(prev_index + len(entries), sum(map(entry_size, entries)), self._log.committed)
        return True

    def _send_snapshot(self, peer: str, progress: Progress) -> None:
        if self._now - progress.last_contact > self._election_timeout:
            return
        if self.snapshot is None:
            raise InvariantViolated(f"no snapshot stands for the log before {self._log!r}")
        progress.become_snapshot(self.snapshot.index)
        self._snapshots_to_send.append(InstallSnapshot(self.server_id, peer, self.term, self.snapshot))

    def _on_append_reply(self, message: AppendReply) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.index > self.last_index:
            raise MalformedMessage(f"{message.sender} answered for {message.index}, the log ends at {self.last_index}")
        progress.last_contact = self._now
        if message.success:
            self._on_append_success(message.sender, progress, message.index)
        else:
            probe_next = 1 + (
                self._log.hint(message.hint_index, message.hint_term)[0] if message.hint_term else message.hint_index
            )
            progress.refused(message.index, probe_next)

    def _on_append_success(self, peer: str, progress: Progress, index: int) -> None:
        news = progress.succeeded(index)
        proves_snapshot = progress.state is ProgressState.SNAPSHOT and progress.match >= self._log.base_index
        if proves_snapshot or (progress.state is ProgressState.PROBE and index == progress.match):
            progress.become_replicate()
        if news:
            self._maybe_hand_over(peer)
            self._maybe_commit()

    def _on_heartbeat_reply(self, message: HeartbeatReply) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.sequence > self._sequence:
            raise MalformedMessage(f"{message.sender} answered heartbeat {message.sequence}, the last was {self._sequence}")
        progress.last_contact = self._now
        progress.acked_sequence = max(progress.acked_sequence, message.sequence)
        progress.resume()
        progress.poked = progress.poked or progress.match < self.last_index
        self._renew_lease()

    def _maybe_commit(self) -> None:
        """Commits what a majority has durably, if of our own term: of earlier ones counting proves nothing (paper, 5.4.2)."""
        index = reached_by_majority(self.configuration.voters(), self._match_of, 0)
        if index >= self._term_start and index > self._log.committed:
            self._commit_to(index)

    def _match_of(self, voter: str) -> int:
        return self._log.persisted if voter == self.server_id else self.progress[voter].match

    def _commit_to(self, index: int) -> None:
        before = self._log.committed
        self._log.commit_to(index)
        for entry in map(self._log.entry, range(before + 1, index + 1)):
            if entry.term == self.term and entry.kind is EntryKind.COMMAND:
                self._uncommitted_bytes -= entry_size(entry)
        if before < self.configuration_index <= index:
            self._on_configuration_committed()

    def _on_configuration_committed(self) -> None:
        """Those who left hear of it once more and are dropped; a leader that left, or lost its vote, is done."""
        self._replicate()
        members = self.configuration.ids()
        self.progress = {peer: progress for peer, progress in self.progress.items() if peer in members}
        if self.server_id not in self.configuration.voters():
            self._become_follower(self.term)

    # replication, the follower's side

    def _on_append(self, message: AppendEntries) -> None:
        if self._installing is not None:
            return
        entries = _checked_entries(message)
        prev_index, prev_term = message.prev_index, message.prev_term
        if prev_index < self._log.committed:
            # The leader holds everything committed, so up to there the logs are equal without looking.
            entries = entries[self._log.committed - prev_index :]
            prev_index, prev_term = self._log.committed, self._log.term_at(self._log.committed) or 0
        if self._log.term_at(prev_index) != prev_term:
            hint_index, hint_term = self._log.hint(prev_index, prev_term)
            self._promises.append(
                AppendReply(self.server_id, message.sender, self.term, False, prev_index, hint_index, hint_term)
            )
            return
        fresh = entries[self._log.first_conflict(entries) :]
        if fresh:
            self._append(fresh)
        proven = prev_index + len(entries)
        self._log.commit_to(max(self._log.committed, min(message.commit, proven)))
        self._acknowledge(message.sender, proven)

    def _on_heartbeat(self, message: Heartbeat) -> None:
        if self._installing is None:
            self._log.commit_to(message.commit)
        self._reply_in_term(HeartbeatReply(self.server_id, message.sender, self.term, message.sequence))

    def _on_install_snapshot(self, message: InstallSnapshot) -> None:
        """Takes a snapshot that is ahead of us; one that our log already contains only tells what is committed."""
        meta = message.meta
        if self._installing is not None:
            return
        if meta.index <= self._log.committed:
            self._acknowledge(message.sender, self._log.committed)
        elif self._log.term_at(meta.index) == meta.term:
            self._log.commit_to(meta.index)
            self._acknowledge(message.sender, meta.index)
        else:
            self._installing, self._install_announced = meta, False

    def _acknowledge(self, leader: str, index: int) -> None:
        self._promises.append(AppendReply(self.server_id, leader, self.term, True, index))

    def _reply_in_term(self, reply: Message) -> None:
        """An answer that promises nothing, but reveals our term: it waits for the disk only when that term is new."""
        durable = self._durable_state.term == self.term
        (self._messages if durable else self._promises).append(reply)

    # the log

    def _append(self, entries: Sequence[Entry]) -> None:
        """Puts entries into the log. Configurations among them are in force from here on, and fall with what they replace."""
        self._log.append(entries)
        while self._configurations[-1][0] >= entries[0].index:
            self._configurations.pop()
        self._configurations += _configurations_among(entries)

    def _forget_configurations_before(self, index: int) -> None:
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            self._configurations.pop(0)

    def _start_write(self, ready: Ready) -> None:
        """Moves what awaits the disk into `ready`; promises leave at once where nothing stands between them and the disk."""
        hard_state = HardState(self.term, self.vote)
        if hard_state != self._written_state:
            ready.hard_state = self._written_state = hard_state
        promises, self._promises = self._promises, []
        if ready.hard_state is None and not self._log.has_unwritten() and not (promises and self._writes):
            ready.messages = promises
            return
        ready.messages_after_persist = promises
        ready.entries = self._log.start_write()
        self._last_write_id += 1
        ready.write_id = self._last_write_id
        self._writes.append(_Write(self._last_write_id, hard_state, self._now))

    # reads

    def _start_read_round(self) -> None:
        """One heartbeat round confirms our leadership to all reads that came before it; held until our term has a commit."""
        if self._reads_waiting and self.has_committed_in_term():
            self._send_heartbeats()
            self._read_rounds.append(_ReadRound(self._sequence, self._log.committed, self._reads_waiting))
            self._reads_waiting = []

    def _acked_sequence(self) -> int:
        return reached_by_majority(self.configuration.voters(), self._sequence_of, 0)

    def _sequence_of(self, voter: str) -> int:
        return self._sequence if voter == self.server_id else self.progress[voter].acked_sequence

    def _renew_lease(self) -> None:
        acked = self._acked_sequence()
        while self._rounds_sent and self._rounds_sent[0][0] <= acked:
            self._lease_start = self._rounds_sent.popleft()[1]

    def _released_reads(self) -> list[tuple[int, int]]:
        released: list[tuple[int, int]] = []
        if not self._read_rounds:
            return released
        acked = self._acked_sequence()
        while self._read_rounds and self._read_rounds[0].sequence <= acked:
            read_round = self._read_rounds.popleft()
            released += [(token, read_round.index) for token in read_round.tokens]
        return released


def joins_snapshot(snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> bool:
    """Whether stored `entries` (not empty) continue the history that `snapshot` ends, overlapping it or right after it."""
    first, last = entries[0].index, entries[-1].index
    if snapshot is None:
        return first == 1
    if first == snapshot.index + 1:
        return True
    return first <= snapshot.index <= last and entries[snapshot.index - first].term == snapshot.term


def _log_from_storage(snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> RaftLog:
    """A log that starts at index 1 or right after the snapshot; else its oldest entry serves as the one before it."""
    base_index, base_term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    committed = base_index
    if entries:
        if not joins_snapshot(snapshot, entries):
            raise InvariantViolated(f"log {entries[0].index}..{entries[-1].index} does not join snapshot {base_index}")
        if entries[0].index == 1:
            base_index, base_term = 0, 0
        elif entries[0].index <= base_index:
            base_index, base_term = entries[0].index, entries[0].term
            entries = entries[1:]
    return RaftLog(base_index, base_term, entries, committed=committed)


def _configurations_from_storage(snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> list[tuple[int, Configuration]]:
    start = (snapshot.configuration_index, snapshot.configuration) if snapshot else (0, Configuration())
    after = snapshot.index if snapshot else 0
    return [start, *_configurations_among([entry for entry in entries if entry.index > after])]


def _configurations_among(entries: Sequence[Entry]) -> list[tuple[int, Configuration]]:
    return [(entry.index, decode_configuration(entry.data)) for entry in entries if entry.kind is EntryKind.CONFIGURATION]


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
