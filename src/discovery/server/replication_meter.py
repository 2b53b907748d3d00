"""Measures how long followers take to answer: appends with entries until they are durable there, and heartbeats."""

import time
from collections import deque
from collections.abc import Sequence
from typing import Final

from discovery.raft.messages import AppendEntries, AppendReply, Heartbeat, HeartbeatReply, Message
from discovery.telemetry import Metrics

_REMEMBERED: Final = 64
"""Messages of either kind under way to one follower; the answers to older ones are not measured."""


class _Sent:
    """What one follower has not answered, oldest first: (index or sequence number, when)."""

    __slots__ = ("appends", "heartbeats")

    def __init__(self) -> None:
        self.appends: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)
        self.heartbeats: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)


class ReplicationMeter:
    def __init__(self, metrics: Metrics) -> None:
        self._appends = metrics.raft_replication_append_entries_rpc
        self._heartbeats = metrics.raft_replication_heartbeat
        self._contact = metrics.raft_leader_contact
        self._entries = metrics.raft_replication_append_entries_logs
        self._followers: dict[str, _Sent] = {}

    def sent(self, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            if type(message) is AppendEntries and message.entries:
                self._of(message.target).appends.append((message.entries[-1].index, now))
                self._entries.inc(len(message.entries))
            elif type(message) is Heartbeat:
                self._of(message.target).heartbeats.append((message.sequence, now))

    def received(self, messages: Sequence[Message]) -> None:
        now = time.monotonic()
        for message in messages:
            if type(message) is AppendReply:
                waiting = self._of(message.sender).appends
                if not message.success:
                    waiting.clear()
                while waiting and waiting[0][0] <= message.index:
                    self._appends.observe(now - waiting.popleft()[1])
            elif type(message) is HeartbeatReply:
                rounds = self._of(message.sender).heartbeats
                while rounds and rounds[0][0] <= message.sequence:
                    took = now - rounds.popleft()[1]
                    self._heartbeats.observe(took)
                    # A lease counts from when the answered round was sent: so old is our newest contact.
                    self._contact.observe(took)

    def _of(self, follower: str) -> _Sent:
        found = self._followers.get(follower)
        if found is None:
            found = self._followers[follower] = _Sent()
        return found
