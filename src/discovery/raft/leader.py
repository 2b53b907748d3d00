"""What a server knows and does only while it leads (paper, figure 2: volatile state on leaders, rules for leaders).

A `Leader` lives for one term in office and is thrown away with all its knowledge afterwards. It replicates (5.3), commits by
counting (5.4.2), confirms its leadership by rounds of heartbeats (dissertation, 6.2 and 6.4), changes the members (4.1) and
hands over (3.10).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from .configuration import ConfigurationChange, change_configuration
from .errors import ConfigurationRefused, InvariantViolated, MalformedMessage, ProposalRefused, TransferRefused
from .log import RaftLog, entry_size
from .messages import (
    AppendEntries,
    AppendReply,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatReply,
    InstallSnapshot,
    Message,
    SnapshotMeta,
    TimeoutNow,
    encode_configuration,
)
from .options import Options, Timings
from .progress import Progress, ProgressState, Window
from .quorum import reached_by_majority
from .rounds import Rounds

Send = Callable[[Message], None]


class Leader:
    def __init__(
        self,
        *,
        server_id: str,
        term: int,
        options: Options,
        timings: Timings,
        log: RaftLog,
        snapshot: SnapshotMeta | None,
        send: Send,
        now: float,
    ) -> None:
        """Takes office with an entry of its own term: only by it are the entries of earlier terms committed (paper, 5.4.2)."""
        self.over = False
        """Set when this server must not or need not lead any longer."""
        self.progress: dict[str, Progress] = {}
        """Every other server that is sent the log."""
        self.snapshot = snapshot
        """The newest durable snapshot, sent to followers that need compacted entries."""
        self.transfer_target: str | None = None
        """Who is to take over; None again when it is given up."""
        self._server_id = server_id
        self._term = term
        self._options = options
        self._timings = timings
        self._log = log
        self._send = send
        self._term_start = log.last_index + 1
        self._uncommitted_bytes = 0
        self._rounds = Rounds()
        self._timed_round = 0
        self._heartbeat_due = now
        self._notice_due = math.inf
        self._quorum_excuse = -math.inf
        self._disk_moved = now
        self._transfer_deadline = math.inf
        self._handed_over = False
        self._track_members(now)
        self._log.append((Entry(self._term_start, term, EntryKind.NOOP, b""),))
        self._beat(now)

    # what others may ask

    def has_committed(self) -> bool:
        """Whether an entry of this term is committed, and with it everything that earlier leaders committed."""
        return self._log.committed >= self._term_start

    def lease_valid(self, now: float) -> bool:
        """Whether surely nobody else can lead yet, and our state holds everything committed in earlier terms.

        The lease is given up for the rest of the term once leadership was offered to another, who need not wait.
        """
        if self._handed_over or self._log.applied < self._term_start:
            return False
        return self._is_only_voter() or now < self._rounds.confirmed_at + self._timings.lease

    def deadline(self) -> float:
        return min(self._heartbeat_due, self._transfer_deadline, self._notice_due)

    # what the shell asks for

    def propose(self, data: bytes) -> int:
        """Appends a command, returns its index. Raises ProposalRefused."""
        self._require_no_transfer()
        entry = Entry(self._log.last_index + 1, self._term, EntryKind.COMMAND, data)
        size = entry_size(entry)
        if self._uncommitted_bytes and self._uncommitted_bytes + size > self._options.max_uncommitted_bytes:
            raise ProposalRefused(f"{self._uncommitted_bytes} bytes of proposals wait for commit")
        self._uncommitted_bytes += size
        self._log.append((entry,))
        return entry.index

    def propose_configuration(self, change: ConfigurationChange, prev_index: int | None, now: float) -> int:
        """Appends the configuration that `change` leads to; returns its index, that of the present one when nothing changes.

        Only one change may be under way, and none before an entry of this term is committed: a change that an earlier leader
        left behind could otherwise make two majorities that do not overlap (correction of 2015 to the dissertation, 4.1).
        """
        self._require_no_transfer()
        membership = self._log.membership
        if not self.has_committed():
            raise ProposalRefused("nothing is committed in this term yet")
        if membership.index > self._log.committed:
            raise ProposalRefused(f"the membership change at {membership.index} is not committed yet")
        if prev_index is not None and prev_index != membership.index:
            raise ConfigurationRefused(f"the configuration has moved from {prev_index} to {membership.index}")
        following = change_configuration(membership.configuration, change)
        if following == membership.configuration:
            return membership.index
        index = self._log.last_index + 1
        self._log.append((Entry(index, self._term, EntryKind.CONFIGURATION, encode_configuration(following)),))
        self._track_members(now)
        self._maybe_commit(now)
        self._confirm_rounds()
        return index

    def read(self, token: int) -> None:
        """A linearizable read; see `take_released_reads`."""
        self._rounds.add_read(token)

    def take_released_reads(self) -> list[tuple[int, int]]:
        return self._rounds.take_released()

    def abandoned_reads(self) -> Iterator[int]:
        return self._rounds.abandoned()

    def transfer(self, target: str | None, now: float) -> None:
        """Hands over to `target`, or to the most advanced other voter. Another target replaces a pending one.

        Raises TransferRefused.
        """
        target = target or self._successor()
        if target is None or target == self._server_id or target not in self._log.membership.voters:
            raise TransferRefused(f"{target or 'nobody'} is not another voter")
        if target == self.transfer_target:
            return
        self.transfer_target = target
        self._transfer_deadline = now + self._timings.election
        self._maybe_hand_over(target)

    # time and disk

    def tick(self, now: float) -> None:
        if now >= self._transfer_deadline:
            self._end_transfer()
        if now < self._heartbeat_due:
            return
        late = now - self._heartbeat_due > self._timings.heartbeat_interval
        if self._has_lost_quorum(now, late=late) or self._is_disk_stuck(now, late=late):
            self.over = True
        else:
            self._beat(now)

    def persisted(self, now: float) -> None:
        """More of our own log is durable."""
        self._disk_moved = now
        self._maybe_commit(now)

    def _is_disk_stuck(self, now: float, *, late: bool) -> bool:
        if late or self._log.persisted == self._log.last_index:
            self._disk_moved = now
        return now - self._disk_moved >= self._timings.write

    def _has_lost_quorum(self, now: float, *, late: bool) -> bool:
        """Whether a majority was silent for the lease timeout; a sleep of our own counts as one heartbeat interval, once."""

        def contact(voter: str) -> float:
            return now if voter == self._server_id else self.progress[voter].last_contact

        heard = reached_by_majority(self._log.membership.voters, contact, -math.inf)
        if late and heard > self._quorum_excuse:
            self._quorum_excuse = now - self._timings.heartbeat_interval
        return now - max(heard, self._quorum_excuse) >= self._timings.lease

    def has_ready(self, now: float) -> bool:
        """Whether there may be something to send, or reads to release."""
        if now >= self._notice_due or self._rounds.has_reads_to_move():
            return True
        last = self._log.last_index
        return any(progress.next <= last or progress.poked for progress in self.progress.values())

    # heartbeat rounds

    def start_reads(self, now: float) -> None:
        """One round confirms our leadership to all reads that came before it; held until our term has a commit."""
        if self._rounds.has_waiting_reads() and self.has_committed():
            self._begin_round(now)
            self._rounds.attach_reads(self._log.committed)
            self._confirm_rounds()

    def _beat(self, now: float) -> None:
        self._heartbeat_due = now + self._timings.heartbeat_interval
        self._timed_round = self._begin_round(now)
        self._confirm_rounds()

    def _begin_round(self, now: float) -> int:
        number = self._rounds.begin(now)
        for peer, progress in self.progress.items():
            commit = min(progress.match, self._log.committed)
            self._send(Heartbeat(self._server_id, peer, self._term, commit, number))
        return number

    def _confirm_rounds(self) -> None:
        def acked(voter: str) -> int:
            return self._rounds.last if voter == self._server_id else self.progress[voter].acked_round

        self._rounds.confirm(reached_by_majority(self._log.membership.voters, acked, 0))

    def on_heartbeat_reply(self, message: HeartbeatReply, now: float) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.sequence > self._rounds.last:
            raise MalformedMessage(f"{message.sender} answered round {message.sequence}, the last was {self._rounds.last}")
        progress.last_contact = now
        progress.acked_round = max(progress.acked_round, message.sequence)
        if message.sequence >= self._timed_round > progress.resumed_round:
            progress.resumed_round = self._timed_round
            progress.resume(self._log.last_index)
        self._confirm_rounds()

    # replication

    def replicate(self, now: float) -> None:
        """Sends every follower what it may be sent now. News of a commit waits a moment for entries to travel with."""
        tell = now >= self._notice_due
        for peer, progress in self.progress.items():
            while not progress.paused() and self._send_append(peer, progress, now, tell=tell):
                pass
        if tell:
            self._notice_due = math.inf

    def _send_append(self, peer: str, progress: Progress, now: float, *, tell: bool) -> bool:
        """Sends the next entries, or an empty append when there is a commit to tell; false if there was nothing."""
        log, following = self._log, progress.next
        if following > log.last_index and not progress.poked and not (tell and progress.told_commit < log.committed):
            return False
        prev_term = log.term_at(following - 1)
        if prev_term is None:
            self._send_snapshot(peer, progress, now)
            return False
        entries: tuple[Entry, ...] = ()
        if not progress.window.full():
            entries = log.slice(following, log.last_index, self._options.max_message_bytes)
        self._send(AppendEntries(self._server_id, peer, self._term, following - 1, prev_term, log.committed, entries))
        progress.sent(following - 1 + len(entries), sum(map(entry_size, entries)), log.committed)
        return True

    def _send_snapshot(self, peer: str, progress: Progress, now: float) -> None:
        """Only to who was heard of lately; the others are asked for a sign of life first."""
        if now - progress.last_contact > self._timings.election:
            return
        if self.snapshot is None:
            raise InvariantViolated(f"no snapshot stands for the log before {self._log!r}")
        progress.become_snapshot(self.snapshot.index)
        self._send(InstallSnapshot(self._server_id, peer, self._term, self.snapshot))

    def on_append_reply(self, message: AppendReply, now: float) -> None:
        progress = self.progress.get(message.sender)
        if progress is None:
            return
        if message.index > self._log.last_index:
            raise MalformedMessage(f"{message.sender} answered for {message.index}, the log ends at {self._log.last_index}")
        progress.last_contact = now
        if message.success:
            self._on_append_success(message.sender, progress, message.index, now)
        else:
            progress.refused(message.index, self._next_probe(message))

    def _next_probe(self, refusal: AppendReply) -> int:
        """After our last entry at or before the hint with a term not above the hint's: the logs cannot agree any later."""
        if not refusal.hint_term:
            return refusal.hint_index + 1
        return self._log.hint(refusal.hint_index, refusal.hint_term)[0] + 1

    def _on_append_success(self, peer: str, progress: Progress, index: int, now: float) -> None:
        """Any success that reaches our log ends a snapshot, whichever it was that the follower got."""
        news = progress.succeeded(index)
        proves_snapshot = progress.state is ProgressState.SNAPSHOT and progress.match >= self._log.base_index
        if proves_snapshot or (progress.state is ProgressState.PROBE and index == progress.match):
            progress.become_replicate()
        if news:
            self._maybe_hand_over(peer)
            self._maybe_commit(now)

    def report_unreachable(self, peer: str) -> None:
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.REPLICATE:
            progress.become_probe(progress.match + 1)

    def report_snapshot(self, peer: str, *, ok: bool) -> None:
        progress = self.progress.get(peer)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            reached = max(progress.match, progress.pending_snapshot if ok else 0)
            progress.become_probe(reached + 1, wait=True)

    # commit

    def _maybe_commit(self, now: float) -> None:
        """Commits what a majority has durably, if of our own term: of earlier ones counting proves nothing (paper, 5.4.2)."""

        def match(voter: str) -> int:
            return self._log.persisted if voter == self._server_id else self.progress[voter].match

        index = reached_by_majority(self._log.membership.voters, match, 0)
        if index >= self._term_start and index > self._log.committed:
            self._commit_to(index, now)

    def _commit_to(self, index: int, now: float) -> None:
        log, before = self._log, self._log.committed
        log.commit_to(index)
        for entry in map(log.entry, range(max(before + 1, self._term_start), index + 1)):
            if entry.kind is EntryKind.COMMAND:
                self._uncommitted_bytes -= entry_size(entry)
        self._notice_due = now + self._timings.commit_notice
        if before < log.membership.index <= index:
            self._on_configuration_committed(now)

    # members

    def _is_only_voter(self) -> bool:
        return self._log.membership.voters == {self._server_id}

    def _track_members(self, now: float) -> None:
        """Members that leave stay tracked until their leaving is committed, so that they hear of it."""
        for server in self._log.membership.configuration.servers:
            if server.id != self._server_id and server.id not in self.progress:
                window = Window(self._options.max_inflight_messages, self._options.max_inflight_bytes)
                self.progress[server.id] = Progress(next_index=self._log.last_index + 1, now=now, window=window)

    def _on_configuration_committed(self, now: float) -> None:
        """Those who left hear of it once more and are dropped; a leader that left, or lost its vote, is done."""
        self._notice_due = now
        self.replicate(now)
        members = self._log.membership.configuration.ids()
        self.progress = {peer: progress for peer, progress in self.progress.items() if peer in members}
        if self._server_id not in self._log.membership.voters:
            self._leave()

    def _leave(self) -> None:
        """The most advanced voter need not wait for its patience to end."""
        successor = self._successor()
        if successor is not None:
            self._send(TimeoutNow(self._server_id, successor, self._term))
        self.over = True

    # handing over

    def _require_no_transfer(self) -> None:
        if self.transfer_target is not None:
            raise ProposalRefused(f"leadership is being transferred to {self.transfer_target}")

    def _successor(self) -> str | None:
        """The other voter that has most of the log and was heard of last."""
        others = sorted(self._log.membership.voters - {self._server_id})
        return max(others, key=lambda peer: (self.progress[peer].match, self.progress[peer].last_contact), default=None)

    def _maybe_hand_over(self, peer: str) -> None:
        if peer == self.transfer_target and self.progress[peer].match == self._log.last_index:
            self._handed_over = True
            self._send(TimeoutNow(self._server_id, peer, self._term))

    def _end_transfer(self) -> None:
        self.transfer_target = None
        self._transfer_deadline = math.inf
