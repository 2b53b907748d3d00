"""The log since the last compaction, held in memory, and the watermarks moving over it.

    base <= applied <= handed <= min(committed, persisted)      committed <= last      persisted <= written <= last

`handed` entries were given out for applying, `written` entries were given out for writing, `persisted` ones are durable.
Writes finish in the order they were started. A conflict that rewrites an entry also shortens what the writes still under
way may claim: a late completion then proves only the entries which are still the ones it wrote. For example

    1. 5@1 is given out for writing;
    2. a new leader replaces it: 5@2 is given out for writing;
    3. the first write finishes. It stored 5@1, so 5 is not persisted;
    4. the second write finishes: now it is.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Sequence

from .errors import InvariantViolated
from .membership import Membership
from .messages import Entry

ENTRY_OVERHEAD = 32
"""Bytes counted for an entry beside its data, so that empty entries are not free of charge."""


def entry_size(entry: Entry) -> int:
    return len(entry.data) + ENTRY_OVERHEAD


class RaftLog:
    def __init__(
        self, base_index: int, base_term: int, entries: Sequence[Entry], *, committed: int, membership: Membership
    ) -> None:
        """`entries` follow (`base_index`, `base_term`) and are durable; everything up to `committed` is applied already."""
        self.membership = membership
        self.base_index = base_index
        self.base_term = base_term
        self._entries = list(entries)
        self.committed = committed
        self.applied = committed
        self.handed = committed
        self.persisted = self.last_index
        self.written = self.last_index
        self._writes: deque[int] = deque()

    def __repr__(self) -> str:
        return (
            f"RaftLog(base {self.base_index}@{self.base_term}, applied {self.applied}, committed {self.committed}, "
            f"persisted {self.persisted}, last {self.last_index}@{self.last_term})"
        )

    @property
    def first_index(self) -> int:
        return self.base_index + 1

    @property
    def last_index(self) -> int:
        return self.base_index + len(self._entries)

    @property
    def last_term(self) -> int:
        return self._entries[-1].term if self._entries else self.base_term

    def term_at(self, index: int) -> int | None:
        """The term of the entry at `index`; None when it is compacted away or not there yet."""
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self._entries[index - self.first_index].term
        return None

    def entry(self, index: int) -> Entry:
        return self._entries[index - self.first_index]

    def slice(self, low: int, high: int, max_bytes: int) -> tuple[Entry, ...]:
        """The entries low..high (both included) as far as they fit into `max_bytes`, though at least one."""
        if low > high:
            return ()
        if low < self.first_index or high > self.last_index:
            raise InvariantViolated(f"slice {low}..{high} outside {self!r}")
        start, end = low - self.first_index, high - self.base_index
        size = 0
        for position in range(start, end):
            size += entry_size(self._entries[position])
            if size > max_bytes and position > start:
                end = position
                break
        return tuple(self._entries[start:end])

    def hint(self, index: int, term: int) -> tuple[int, int]:
        """Our last (index, term) at or before `index` with a term not above `term`; term 0 when that is compacted away.

        Terms never fall along a log, so two logs can agree at or before this entry only: one exchange skips a whole term.
        """
        index = min(index, self.last_index)
        if index < self.base_index:
            return index, 0
        position = bisect_right(self._entries, term, hi=index - self.base_index, key=lambda entry: entry.term)
        if position:
            found = self._entries[position - 1]
            return found.index, found.term
        return (self.base_index, self.base_term) if self.base_term <= term else (max(self.base_index - 1, 0), 0)

    def first_conflict(self, entries: Sequence[Entry]) -> int:
        """The position in `entries` of the first one that is missing here or has another term; their number if none."""
        for position, entry in enumerate(entries):
            if self.term_at(entry.index) != entry.term:
                return position
        return len(entries)

    def append(self, entries: Sequence[Entry]) -> None:
        """Puts `entries` at their indexes, dropping whatever stood at or after the first of them, configurations included."""
        first = entries[0].index
        if first <= self.committed or first > self.last_index + 1:
            raise InvariantViolated(f"append at {first} would rewrite or skip entries of {self!r}")
        if first <= self.last_index:
            self._truncate(first)
        self._entries.extend(entries)
        self.membership.append(entries)

    def _truncate(self, first: int) -> None:
        del self._entries[first - self.first_index :]
        self.written = min(self.written, first - 1)
        self.persisted = min(self.persisted, first - 1)
        self._writes = deque(min(write, first - 1) for write in self._writes)

    def has_unwritten(self) -> bool:
        return self.written < self.last_index

    def start_write(self, *, with_entries: bool) -> tuple[Entry, ...]:
        """What to write next, nothing unless `with_entries`; each call is answered by one `finish_write`."""
        entries: tuple[Entry, ...] = ()
        if with_entries:
            entries = tuple(self._entries[self.written - self.base_index :])
            self.written = self.last_index
        self._writes.append(self.written)
        return entries

    def finish_write(self) -> None:
        """The oldest write under way is durable."""
        self.persisted = max(self.persisted, self._writes.popleft())

    def commit_to(self, index: int) -> None:
        if index > self.last_index:
            raise InvariantViolated(f"commit {index} beyond {self!r}: this log was damaged, truncated or lost")
        self.committed = max(self.committed, index)

    def next_committed(self, max_bytes: int) -> tuple[Entry, ...]:
        """The next page of entries to apply: committed, and durable here."""
        entries = self.slice(self.handed + 1, min(self.committed, self.persisted), max_bytes)
        self.handed += len(entries)
        return entries

    def applied_to(self, index: int) -> None:
        if not self.applied <= index <= self.handed:
            raise InvariantViolated(f"applied {index} outside {self.applied}..{self.handed}")
        self.applied = index

    def compact(self, index: int) -> None:
        """Forgets the entries up to `index`, which must be applied; its term is kept. No-op when forgotten already."""
        if index > self.applied:
            raise InvariantViolated(f"compaction to {index} beyond applied in {self!r}")
        if index > self.base_index:
            term = self.entry(index).term
            del self._entries[: index - self.base_index]
            self.base_index, self.base_term = index, term

    def restore(self, index: int, term: int, membership: Membership) -> None:
        """Starts anew after a snapshot that replaces everything."""
        self._entries.clear()
        self.membership = membership
        self.base_index, self.base_term = index, term
        self.committed = self.applied = self.handed = self.persisted = self.written = index
        self._writes = deque(0 for _ in self._writes)
