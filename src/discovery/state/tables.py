"""Tables of immutable rows whose changes can be undone.

A command is atomic: what it did up to a refusal is taken back. Every change of a row notes the row that was there before; undoing
puts those rows back in reverse order. Whatever is derived from rows (groups, orders) follows the rows in both directions.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from sortedcontainers import SortedList

from discovery.model.query import Topic

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
G = TypeVar("G", bound=Hashable)


class Undoable(Protocol):
    def put_back(self, key: Any, row: Any) -> None:
        """Make `row` the row of `key` again; None: there was none."""


class Changes:
    """What the command being applied has done so far, and whom the block being applied will wake."""

    __slots__ = ("_marks", "index", "journal", "keys", "released", "topics")

    def __init__(self) -> None:
        self.index = 0
        """State index of the command."""
        self.journal: list[tuple[Undoable, Any, Any]] = []
        self.topics: list[Topic] = []
        self.keys: list[str] = []
        """KV keys that changed."""
        self.released: list[tuple[str, int]] = []
        """Locks that an ended session held, with its lock-delay in nanoseconds."""
        self._marks = (0, 0, 0)

    def begin(self, index: int) -> None:
        self.index = index
        self.journal.clear()
        self._marks = (len(self.topics), len(self.keys), len(self.released))

    def undo(self) -> None:
        """Take back what the command did."""
        for table, key, row in reversed(self.journal):
            table.put_back(key, row)
        self.journal.clear()
        topics, keys, released = self._marks
        del self.topics[topics:], self.keys[keys:], self.released[released:]


_NO_KEYS: Final[frozenset[Any]] = frozenset()


class Group(Generic[G, K, R]):
    """The keys of the rows that have something in common. Their order means nothing."""

    def __init__(self, of: Callable[[K, R], Iterable[G]]) -> None:
        self._of = of
        self._keys: dict[G, dict[K, None]] = {}

    def __getitem__(self, common: G) -> Collection[K]:
        keys: Collection[K] = self._keys.get(common, _NO_KEYS)
        return keys

    def __iter__(self) -> Iterator[G]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def follow(self, key: K, old: R | None, new: R | None) -> None:
        was = self._of(key, old) if old is not None else ()
        now = self._of(key, new) if new is not None else ()
        if was == now:
            return
        for common in was:
            members = self._keys[common]
            members.pop(key, None)
            if not members:
                del self._keys[common]
        for common in now:
            self._keys.setdefault(common, {})[key] = None


class Table(Generic[K, R]):
    """Rows by key. `rows` is for reading only."""

    def __init__(self, changes: Changes, *groups: Group[Any, K, R]) -> None:
        self.rows: dict[K, R] = {}
        self._changes = changes
        self._groups = groups

    def put(self, key: K, row: R) -> None:
        old = self.rows.get(key)
        self._changes.journal.append((self, key, old))
        self._place(key, old, row)

    def remove(self, key: K) -> None:
        old = self.rows.get(key)
        if old is not None:
            self._changes.journal.append((self, key, old))
            self._place(key, old, None)

    def put_back(self, key: K, row: R | None) -> None:
        self._place(key, self.rows.get(key), row)

    def load(self, rows: Mapping[K, R]) -> None:
        """Take up rows that need not be undone."""
        for key, row in rows.items():
            self._place(key, None, row)

    def _place(self, key: K, old: R | None, new: R | None) -> None:
        if new is not None:
            self.rows[key] = new
        elif old is not None:
            del self.rows[key]
        for group in self._groups:
            group.follow(key, old, new)


class Indexes(Table[str, int]):
    """The state index of the newest change to each table and to each service."""

    def move(self, name: str) -> None:
        """`name` changes with the present command."""
        if self.rows.get(name) != self._changes.index:
            self.put(name, self._changes.index)

    def newest(self, *names: str) -> int:
        return max(self.rows.get(name, 0) for name in names)


class Names:
    """Names in bytewise order; Python orders text by code point, which is the order of its UTF-8 bytes."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._sorted = SortedList(names)

    def __len__(self) -> int:
        return len(self._sorted)

    def __iter__(self) -> Iterator[str]:
        return iter(self._sorted)

    def add(self, name: str) -> None:
        self._sorted.add(name)

    def remove(self, name: str) -> None:
        self._sorted.remove(name)

    def under(self, prefix: str) -> Iterator[str]:
        """Those that start with `prefix`, in order."""
        if not prefix:
            return iter(self._sorted)
        names: Iterator[str] = self._sorted.irange(prefix, after_prefix(prefix), inclusive=(True, False))
        return names

    def first_from(self, start: str) -> str | None:
        """The first that is not below `start`."""
        return next(self._sorted.irange(start), None)


_LAST_CODE_POINT: Final = chr(0x10FFFF)


def after_prefix(prefix: str) -> str | None:
    """The smallest text above all that start with `prefix`; None if there is none."""
    stem = prefix.rstrip(_LAST_CODE_POINT)
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else None
