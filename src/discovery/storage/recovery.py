"""How a server starts: the newest snapshot and the log are brought to agree before Raft sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discovery.raft.messages import Entry, HardState, SnapshotMeta
from discovery.raft.restart import joins_snapshot

from .errors import CorruptLog
from .log import LogStore, StoredLog
from .snapshots import SnapshotStore


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `raft.core.Raft` starts from."""

    hard_state: HardState
    snapshot: SnapshotMeta | None
    entries: Sequence[Entry]


def recover(log: LogStore, snapshots: SnapshotStore) -> Recovered:
    """Loads and verifies everything.

    A log that a received snapshot has overtaken (the crash came between storing the one and resetting the other) is reset.
    A log that begins after the snapshot's end has lost entries: raises CorruptLog.
    """
    snapshot = snapshots.newest()
    stored = log.load()
    covered = snapshot.index if snapshot else 0
    if stored.base_index > covered:
        raise CorruptLog(log.path, covered + 1, f"no intact snapshot reaches the log, which begins after {stored.base_index}")
    if snapshot is None or _continues(snapshot, stored):
        return Recovered(stored.hard_state, snapshot, stored.entries)
    log.reset(snapshot)
    return Recovered(stored.hard_state, snapshot, ())


def _continues(snapshot: SnapshotMeta, stored: StoredLog) -> bool:
    if stored.entries:
        return joins_snapshot(snapshot, stored.entries)
    return stored.base_index == snapshot.index
