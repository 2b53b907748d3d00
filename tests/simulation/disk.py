"""A disk that forgets what was not synced. It satisfies what `storage.recovery.recover` asks of the real stores."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path

from discovery.raft.messages import Entry, HardState, SnapshotMeta
from discovery.storage.log import StoredLog

Change = Callable[[], None]


class SimulatedDisk:
    """The durable image of one server, and the changes that wait for their fsync in order."""

    def __init__(self, name: str) -> None:
        self.path = Path(name)
        self.hard_state = HardState()
        self.base_index = 0
        self.entries: list[Entry] = []
        self.snapshots: dict[int, tuple[SnapshotMeta, bytes]] = {}
        self.queue: deque[tuple[Change, Change]] = deque()

    @property
    def last_index(self) -> int:
        return self.base_index + len(self.entries)

    def submit(self, change: Change, done: Change) -> None:
        self.queue.append((change, done))

    def finish_one(self) -> Change:
        """The oldest change becomes durable; returns who is to be told."""
        change, done = self.queue.popleft()
        change()
        return done

    def crash(self, rng: random.Random) -> None:
        """Of the changes not synced yet, the first few happen to have reached the disk."""
        for _ in range(rng.randint(0, len(self.queue))):
            self.queue.popleft()[0]()
        self.queue.clear()

    def holds(self, index: int, term: int) -> bool:
        """Whether the entry is durable here, itself or inside a snapshot."""
        if self.base_index < index <= self.last_index:
            return self.entries[index - self.base_index - 1].term == term
        return index <= max(self.snapshots, default=0)

    # the changes

    def append(self, entries: Sequence[Entry], hard_state: HardState | None) -> None:
        if entries:
            first = entries[0].index
            assert self.base_index < first <= self.last_index + 1, f"append at {first} to {self.base_index}..{self.last_index}"
            self.entries[first - self.base_index - 1 :] = entries
        self.hard_state = hard_state or self.hard_state

    def compact(self, up_to: int) -> None:
        if up_to > self.base_index:
            del self.entries[: up_to - self.base_index]
            self.base_index = up_to

    def reset(self, meta: SnapshotMeta) -> None:
        self.entries = []
        self.base_index = meta.index

    def save(self, meta: SnapshotMeta, state: bytes) -> None:
        self.snapshots[meta.index] = (meta, state)
        for index in sorted(self.snapshots)[:-2]:
            del self.snapshots[index]

    # what recovery reads

    def load(self) -> StoredLog:
        return StoredLog(self.hard_state, self.base_index, list(self.entries))

    def newest(self) -> SnapshotMeta | None:
        return self.snapshots[max(self.snapshots)][0] if self.snapshots else None
