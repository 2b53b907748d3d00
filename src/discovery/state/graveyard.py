"""Tombstones: what was deleted from the KV store, and when.

A reader of a key or a prefix must see a higher index when the key, or one under the prefix, goes. A deleted key leaves a mark,
also when it goes with its tree; a very large tree leaves one mark at its prefix instead, which also raises the index of keys
under it that were not there. Marks are reaped after a while (`ReapTombstones`); a key that is written again needs its own no
longer.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final

from .lookup import Lengths
from .ordered import OrderedRows
from .tables import Changes

LARGE_TREE: Final = 10_000
"""Keys."""


class Marks:
    """State index by name."""

    def __init__(self, changes: Changes) -> None:
        self.ordered: OrderedRows[int] = OrderedRows()
        self.rows = self.ordered.rows
        self._changes = changes
        self._lengths = Lengths()
        self._oldest_first: deque[tuple[int, str]] = deque()
        """Every mark at its index, among others that were taken back or made anew."""

    def put(self, name: str) -> None:
        """Mark `name` with the index of the present command."""
        old = self.rows.get(name)
        index = self._changes.index
        if self._changes.recording:
            self._changes.journal.append((self, name, old))
        self._place(name, old, index)
        self._oldest_first.append((index, name))

    def remove(self, name: str) -> None:
        old = self.rows.get(name)
        if old is not None:
            if self._changes.recording:
                self._changes.journal.append((self, name, old))
            self._place(name, old, None)

    def put_back(self, name: str, index: int | None) -> None:
        self._place(name, self.rows.get(name), index)

    def _place(self, name: str, old: int | None, new: int | None) -> None:
        if new is None:
            self.ordered.remove(name)
            self._lengths.remove(name)
            return
        self.ordered.put(name, new)
        if old is None:
            self._lengths.add(name)

    def newest_under(self, prefix: str) -> int:
        return max(self.ordered.rows_under(prefix), default=0)

    def newest_above(self, name: str) -> int:
        """The newest among the marks whose name `name` starts with."""
        rows = self.rows
        return max((rows.get(start) or 0 for start in self._lengths.starts_of(name)), default=0) if rows else 0

    def reaches(self, index: int) -> bool:
        """Whether there is a mark at or below `index`."""
        queue = self._oldest_first
        while queue and self.rows.get(queue[0][1]) != queue[0][0]:
            queue.popleft()
        return bool(queue) and queue[0][0] <= index

    def reap(self, index: int) -> None:
        while self.reaches(index):
            self.remove(self._oldest_first.popleft()[1])

    def load(self, marks: Iterable[tuple[str, int]]) -> None:
        """Take up the marks of a snapshot, ascending by name; `ValueError` if they don't."""
        added = list(marks)
        self.ordered.load(added)
        for name, index in added:
            self._lengths.add(name)
            self._oldest_first.append((index, name))

    def loaded(self) -> None:
        """All of them are there."""
        self._oldest_first = deque(sorted(self._oldest_first))


class Graveyard:
    def __init__(self, changes: Changes) -> None:
        self.keys = Marks(changes)
        self.trees = Marks(changes)

    def bury(self, key: str) -> None:
        self.keys.put(key)

    def bury_tree(self, prefix: str, keys: Sequence[str]) -> None:
        """`keys` under `prefix`, all that there were, are deleted."""
        if len(keys) > LARGE_TREE:
            self.trees.put(prefix)
            return
        for key in keys:
            self.keys.put(key)

    def revive(self, key: str) -> None:
        """The key exists again, at an index above that of its mark."""
        if self.keys.rows:
            self.keys.remove(key)

    def newest_of(self, key: str) -> int:
        """When `key` was last deleted, by itself or with a tree; 0: not known."""
        return max(self.keys.rows.get(key) or 0, self.trees.newest_above(key))

    def newest_under(self, prefix: str) -> int:
        """When something under `prefix` was last deleted, by itself or with a tree within or around it; 0: not known."""
        return max(self.keys.newest_under(prefix), self.trees.newest_under(prefix), self.trees.newest_above(prefix))

    def loaded(self) -> None:
        self.keys.loaded()
        self.trees.loaded()

    def reap(self, index: int) -> None:
        self.keys.reap(index)
        self.trees.reap(index)

    def reaches(self, index: int) -> bool:
        """Whether there is a mark at or below `index`."""
        return self.keys.reaches(index) or self.trees.reaches(index)
