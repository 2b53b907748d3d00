"""Rows by name, in the order of the names, of which a view can be taken at any time at next to no cost.

The names lie in many short sorted lists (runs). A view shares them, and a run is copied before it changes. The rows lie in one
dict; as long as somebody holds a view, a row that is about to change is saved for it first. So neither taking a view of a million
rows nor what follows it ever stops the world, and another thread may read the view meanwhile.
"""

import weakref
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Final, Generic, TypeVar

R = TypeVar("R")

_RUN: Final = 512
"""Names in a run after it was split; it is split again at twice as many."""


class View(Generic[R]):
    """Rows as they were."""

    __slots__ = ("__weakref__", "_rows", "_runs", "saved")

    def __init__(self, rows: dict[str, R], runs: list[list[str]]) -> None:
        self._rows = rows
        self._runs = runs
        self.saved: dict[str, R | None] = {}
        """Rows that have changed since."""

    def __len__(self) -> int:
        return sum(map(len, self._runs))

    def items(self) -> Iterator[tuple[str, R]]:
        rows, saved = self._rows, self.saved
        for run in self._runs:
            for name in run:
                # In this order: a row is saved before it changes, so if it was not saved by now, this is the old one.
                row = rows.get(name)
                if name in saved:
                    row = saved[name]
                assert row is not None
                yield name, row

    def rows(self) -> Iterator[R]:
        return (row for _, row in self.items())

    def pieces(self, size: int) -> Iterator[list[R]]:
        """The rows, `size` at a time."""
        rows = self.rows()
        while piece := list(islice(rows, size)):
            yield piece


class OrderedRows(Generic[R]):
    """Names are in bytewise order: Python orders text by code point, which is the order of its UTF-8 bytes."""

    __slots__ = ("_highest", "_runs", "_shared", "_views", "rows")

    def __init__(self) -> None:
        self.rows: dict[str, R] = {}
        """For reading only."""
        self._runs: list[list[str]] = []
        self._highest: list[str] = []
        """The last name of each run."""
        self._shared: set[int] = set()
        """Identities of the runs that views may hold. That of a dead one may come back: then a copy is made in vain."""
        self._views: list[weakref.ref[View[R]]] = []

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self._runs)

    def view(self, prefix: str = "") -> View[R]:
        """Of the rows whose name starts with `prefix`."""
        view = View(self.rows, list(self._runs_under(prefix)) if prefix else self._runs.copy())
        self._shared = set(map(id, self._runs))
        self._views.append(weakref.ref(view))
        return view

    # --- changes -----------------------------------------------------------------------------------------------------

    def put(self, name: str, row: R) -> None:
        if self._views:
            self._save(name)
        if name not in self.rows:
            self._add_name(name)
        self.rows[name] = row

    def remove(self, name: str) -> None:
        if self._views:
            self._save(name)
        del self.rows[name]
        self._remove_name(name)

    def remove_under(self, prefix: str) -> list[R]:
        """Remove all rows whose name starts with `prefix`; return them in order."""
        names = list(self.under(prefix))
        if self._views:
            for name in names:
                self._save(name)
        if names:
            self._remove_range(prefix, after_prefix(prefix))
        return [self.rows.pop(name) for name in names]

    def load(self, rows: Iterable[tuple[str, R]]) -> None:
        """Add rows whose names ascend, all above those that are there; `ValueError` if they don't."""
        highest = self._highest[-1] if self._highest else None
        for name, row in rows:
            if highest is not None and name <= highest:
                raise ValueError(f"{name!r} is not above {highest!r}")
            highest = name
            self.rows[name] = row
            if not self._runs or len(self._runs[-1]) >= _RUN:
                self._runs.append([name])
                self._highest.append(name)
            else:
                self._runs[-1].append(name)
                self._highest[-1] = name

    def _save(self, name: str) -> None:
        """The row of `name` is about to change."""
        row = self.rows.get(name)
        for reference in self._views:
            view = reference()
            if view is not None:
                view.saved.setdefault(name, row)
            else:
                self._views = [reference for reference in self._views if reference() is not None]

    def _own_run(self, at: int) -> list[str]:
        run = self._runs[at]
        if id(run) in self._shared:
            self._shared.discard(id(run))
            self._runs[at] = run = run.copy()
        return run

    def _add_name(self, name: str) -> None:
        if not self._runs:
            self._runs.append([name])
            self._highest.append(name)
            return
        at = bisect_left(self._highest, name)
        if at == len(self._runs):
            at -= 1
            run = self._own_run(at)
            run.append(name)
            self._highest[at] = name
        else:
            run = self._own_run(at)
            insort(run, name)
        if len(run) >= 2 * _RUN:
            self._runs.insert(at + 1, run[_RUN:])
            del run[_RUN:]
            self._highest.insert(at, run[-1])

    def _remove_name(self, name: str) -> None:
        at = bisect_left(self._highest, name)
        run = self._own_run(at)
        del run[bisect_left(run, name)]
        self._settle(at)

    def _remove_range(self, start: str, stop: str | None) -> None:
        """Remove the names from `start` up to, without, `stop`; None: up to the end."""
        first = bisect_left(self._highest, start)
        last = len(self._runs) if stop is None else bisect_left(self._highest, stop)
        if last > first:
            self._cut(first, start, None)
        if stop is not None and last < len(self._runs):
            self._cut(last, start, stop)
        del self._runs[first + 1 : last], self._highest[first + 1 : last]
        for at in range(min(first + 1, len(self._runs) - 1), first - 1, -1):
            self._settle(at)

    def _cut(self, at: int, start: str, stop: str | None) -> None:
        run = self._own_run(at)
        del run[bisect_left(run, start) : len(run) if stop is None else bisect_left(run, stop)]

    def _settle(self, at: int) -> None:
        """Names went from a run: it may be empty now, or end earlier."""
        run = self._runs[at]
        if run:
            self._highest[at] = run[-1]
        else:
            del self._runs[at], self._highest[at]

    # --- reads -------------------------------------------------------------------------------------------------------

    def under(self, prefix: str) -> Iterator[str]:
        """The names that start with `prefix`, in order."""
        return chain.from_iterable(self._runs_under(prefix)) if prefix else iter(self)

    def _runs_under(self, prefix: str) -> Iterator[list[str]]:
        stop = after_prefix(prefix)
        for at in range(bisect_left(self._highest, prefix), len(self._runs)):
            run = self._runs[at]
            begins_within, ends_within = run[0] >= prefix, stop is None or run[-1] < stop
            if begins_within and ends_within:
                yield run
            else:
                yield run[bisect_left(run, prefix) : len(run) if stop is None else bisect_left(run, stop)]
            if not ends_within:
                return

    def has_many_under(self, prefix: str, many: int) -> bool:
        """Whether about `many` names or more start with `prefix`, found out without counting them."""
        stop = after_prefix(prefix)
        last = len(self._runs) if stop is None else bisect_left(self._highest, stop)
        return (last - bisect_left(self._highest, prefix)) * _RUN >= many

    def rows_under(self, prefix: str) -> list[R]:
        return list(map(self.rows.__getitem__, self.under(prefix)))

    def first_from(self, start: str) -> str | None:
        """The first name that is not below `start`."""
        at = bisect_left(self._highest, start)
        if at == len(self._runs):
            return None
        run = self._runs[at]
        return run[bisect_left(run, start)]


_LAST_CODE_POINT: Final = chr(0x10FFFF)


def after_prefix(prefix: str) -> str | None:
    """The smallest text above all that start with `prefix`; None if there is none."""
    stem = prefix.rstrip(_LAST_CODE_POINT)
    return stem[:-1] + chr(ord(stem[-1]) + 1) if stem else None
