"""What a server begins with: the durable snapshot and log become the log in memory."""

from __future__ import annotations

from collections.abc import Sequence

from .errors import InvariantViolated
from .log import RaftLog
from .membership import Membership
from .messages import Configuration, Entry, SnapshotMeta


def joins_snapshot(snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> bool:
    """Whether stored `entries` (not empty) continue the history that `snapshot` ends, overlapping it or right after it."""
    first, last = entries[0].index, entries[-1].index
    if snapshot is None:
        return first == 1
    if first == snapshot.index + 1:
        return True
    return first <= snapshot.index <= last and entries[snapshot.index - first].term == snapshot.term


def log_from_storage(snapshot: SnapshotMeta | None, entries: Sequence[Entry]) -> RaftLog:
    """A log that starts at index 1 or right after the snapshot; else its oldest entry serves as the one before it.

    What the snapshot covers counts as applied. Raises InvariantViolated when `entries` do not continue the snapshot.
    """
    base_index, base_term = (snapshot.index, snapshot.term) if snapshot else (0, 0)
    covered = base_index
    membership = Membership(snapshot.configuration_index, snapshot.configuration) if snapshot else Membership(0, Configuration())
    if entries:
        if not joins_snapshot(snapshot, entries):
            raise InvariantViolated(f"log {entries[0].index}..{entries[-1].index} does not join snapshot {covered}")
        if entries[0].index == 1:
            base_index, base_term = 0, 0
        elif entries[0].index <= covered:
            base_index, base_term = entries[0].index, entries[0].term
            entries = entries[1:]
    if later := [entry for entry in entries if entry.index > covered]:
        membership.append(later)
    return RaftLog(base_index, base_term, entries, committed=covered, membership=membership)
