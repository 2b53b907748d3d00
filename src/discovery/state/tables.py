"""Tables of immutable rows whose changes can be undone.

A command is atomic: what it did up to a refusal is taken back. Every change of a row notes the row that was there before; undoing
puts those rows back in reverse order. Whatever is derived from rows (groups, counts) follows the rows in both directions.
"""

from collections.abc import Callable, Collection, Hashable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, Protocol, TypeVar

from msgspec.structs import replace

from discovery.model.query import Read, Topic

K = TypeVar("K", bound=Hashable)
R = TypeVar("R")
G = TypeVar("G", bound=Hashable)
T = TypeVar("T")


class Undoable(Protocol):
    def put_back(self, key: Any, row: Any) -> None:
        """Make `row` the row of `key` again; None: there was none."""


class Changes:
    """What the command being applied has done so far, and whom the block being applied will wake."""

    __slots__ = ("_marks", "index", "journal", "key_indexes", "keys", "recording", "released", "topics")

    def __init__(self) -> None:
        self.index = 0
        """State index of the command."""
        self.journal: list[tuple[Undoable, Any, Any]] = []
        self.recording = True
        """Whether the command may have to be undone: a single operation on a key refuses before it changes anything."""
        self.topics: list[Topic] = []
        self.keys: list[str] = []
        """KV keys that changed."""
        self.key_indexes: list[int] = []
        """For each of them when."""
        self.released: list[tuple[str, int]] = []
        """Locks that an ended session held, with its lock-delay in nanoseconds."""
        self._marks = (0, 0, 0)

    def begin(self, index: int) -> None:
        self.index = index
        self.recording = True
        self.journal.clear()
        self._marks = (len(self.topics), len(self.keys), len(self.released))

    def undo(self) -> None:
        """Take back what the command did."""
        for table, key, row in reversed(self.journal):
            table.put_back(key, row)
        self.journal.clear()
        topics, keys, released = self._marks
        del self.topics[topics:], self.keys[keys:], self.key_indexes[keys:], self.released[released:]


_NO_KEYS: Final[tuple[Any, ...]] = ()
_FEW: Final = 8
"""Up to this many keys a tuple takes much less memory than a dict, and hardly more time."""


class Group(Generic[G, K, R]):
    """The keys of the rows that have something in common. Their order means nothing. `of` names nothing twice for one row.

    `by_key`: what is common follows from the key alone, so that a change of the row moves nothing.
    """

    def __init__(self, of: Callable[[K, R], Iterable[G]], *, by_key: bool = False) -> None:
        self._of = of
        self.by_key = by_key
        self._keys: dict[G, tuple[K, ...] | dict[K, None]] = {}

    def __getitem__(self, common: G) -> Collection[K]:
        members: Collection[K] = self._keys.get(common, _NO_KEYS)
        return members

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
            self._take(common, key)
        for common in now:
            self._add(common, key)

    def _add(self, common: G, key: K) -> None:
        members = self._keys.get(common)
        if members is None:
            self._keys[common] = (key,)
        elif type(members) is dict:
            members[key] = None
        elif len(members) < _FEW:
            self._keys[common] = (*members, key) if key not in members else members
        else:
            self._keys[common] = dict.fromkeys((*members, key))

    def _take(self, common: G, key: K) -> None:
        members = self._keys[common]
        if type(members) is dict:
            members.pop(key, None)
        else:
            members = self._keys[common] = tuple(member for member in members if member != key)
        if not members:
            del self._keys[common]


class Table(Generic[K, R]):
    """Rows by key. `rows` is for reading only."""

    def __init__(self, changes: Changes, *groups: Group[Any, K, R]) -> None:
        self.rows: dict[K, R] = {}
        self._changes = changes
        self._groups = groups
        self._moving = tuple(group for group in groups if not group.by_key)

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
        groups = self._groups if old is None or new is None else self._moving
        for group in groups:
            group.follow(key, old, new)


class Indexed(Protocol):
    @property
    def create_index(self) -> int: ...
    @property
    def modify_index(self) -> int: ...


IndexedRow = TypeVar("IndexedRow", bound=Indexed)


def with_shared_index(row: IndexedRow) -> IndexedRow:
    """The same row, with one number where it was read as two equal ones: most rows never change, and there may be very many."""
    if row.modify_index != row.create_index:
        return row
    # Rows are structs, which `replace` asks for and a protocol cannot say; one with other fields would fail here at once.
    shared: IndexedRow = replace(row, modify_index=row.create_index)  # type: ignore[type-var]
    return shared


class TopicIndexes(dict[Topic, int]):
    """State index by topic."""

    def put_back(self, topic: Topic, index: int | None) -> None:
        if index is None:
            self.pop(topic, None)
        else:
            self[topic] = index


class Topics:
    """When each part of the state last changed.

    The index of a read is that of its topics, and the same topics wake whoever waits for it: an answer has a higher index exactly
    when its watchers were woken. What is gone keeps the index of its end until the end is reaped, so that who looked away
    meanwhile still learns of it; then it is as if it had never been.
    """

    def __init__(self, changes: Changes) -> None:
        self.live = TopicIndexes()
        self.gone = TopicIndexes()
        self._changes = changes

    def touch(self, *topics: Topic) -> None:
        """They change with the present command."""
        changes, live = self._changes, self.live
        index = changes.index
        for topic in topics:
            old = live.get(topic)
            if old == index:
                continue
            live[topic] = index
            changes.journal.append((live, topic, old))
            changes.topics.append(topic)
            if old is None and topic in self.gone:
                changes.journal.append((self.gone, topic, self.gone.pop(topic)))

    def end(self, topic: Topic) -> None:
        """What `topic` is about is gone as of the present command."""
        changes = self._changes
        changes.journal.append((self.live, topic, self.live.pop(topic, None)))
        changes.journal.append((self.gone, topic, self.gone.get(topic)))
        changes.topics.append(topic)
        self.gone[topic] = changes.index

    def retire(self, topic: Topic) -> None:
        """Nobody will touch `topic` for now: its index may be reaped, but it did not change."""
        index = self.live.pop(topic, None)
        if index is not None:
            self._changes.journal.append((self.live, topic, index))
            self._changes.journal.append((self.gone, topic, self.gone.get(topic)))
            self.gone[topic] = index

    def newest(self, *topics: Topic) -> int:
        """The index of the newest change to any of them, at least `NEVER`."""
        live, gone = self.live, self.gone
        return max([NEVER, *(live.get(topic) or gone.get(topic, NEVER) for topic in topics)])

    def read(self, value: T, *topics: Topic) -> Read[T]:
        """`value` as what depends on `topics`."""
        return Read(self.newest(*topics), value, topics)

    def reaches(self, index: int) -> bool:
        """Whether anything ended at or below `index`."""
        return any(ended <= index for ended in self.gone.values())

    def reap(self, index: int) -> None:
        for topic in [topic for topic, ended in self.gone.items() if ended <= index]:
            self._changes.journal.append((self.gone, topic, self.gone.pop(topic)))


NEVER: Final = 1
"""The index of what has never changed: 0 would make a blocking query not block."""
