"""Tombstones: what was deleted from the KV store, and when.

A reader of a prefix must see a higher index when a key under it goes. Deleting a key leaves a mark at the key, deleting a tree
one mark at its prefix. Marks are reaped after a while (`ReapTombstones`); a key that is written again needs its own no longer.
"""

from collections.abc import Mapping

from .tables import Changes, Names, Table


class Marks(Table[str, int]):
    """State index by name, with the names in order."""

    def __init__(self, changes: Changes) -> None:
        super().__init__(changes)
        self._names = Names()

    def _place(self, key: str, old: int | None, new: int | None) -> None:
        super()._place(key, old, new)
        if old is None and new is not None:
            self._names.add(key)
        elif new is None and old is not None:
            self._names.remove(key)

    def newest_under(self, prefix: str) -> int:
        if not self.rows:
            return 0
        return max(map(self.rows.__getitem__, self._names.under(prefix)), default=0)

    def newest_above(self, name: str) -> int:
        """The newest among the marks whose name `name` starts with."""
        if not self.rows:
            return 0
        return max(self.rows.get(name[:length], 0) for length in range(len(name) + 1))

    def reap(self, index: int) -> None:
        for name in [name for name, marked in self.rows.items() if marked <= index]:
            self.remove(name)


class Graveyard:
    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self.keys = Marks(changes)
        self.trees = Marks(changes)

    def bury(self, key: str) -> None:
        self.keys.put(key, self._changes.index)

    def bury_tree(self, prefix: str) -> None:
        self.trees.put(prefix, self._changes.index)

    def revive(self, key: str) -> None:
        """The key exists again, at an index above that of its mark."""
        if key in self.keys.rows:
            self.keys.remove(key)

    def newest_of(self, key: str) -> int:
        """When `key` was last deleted, by itself or with a tree; 0: not known."""
        return max(self.keys.rows.get(key, 0), self.trees.newest_above(key))

    def newest_under(self, prefix: str) -> int:
        """When something under `prefix` was last deleted, by itself or with a tree within or around it; 0: not known."""
        return max(self.keys.newest_under(prefix), self.trees.newest_under(prefix), self.trees.newest_above(prefix))

    def reap(self, index: int) -> None:
        self.keys.reap(index)
        self.trees.reap(index)

    def reaches(self, index: int) -> bool:
        """Whether there is a mark at or below `index`."""
        return any(marked <= index for marks in (self.keys, self.trees) for marked in marks.rows.values())

    def load(self, keys: Mapping[str, int], trees: Mapping[str, int]) -> None:
        self.keys.load(keys)
        self.trees.load(trees)
