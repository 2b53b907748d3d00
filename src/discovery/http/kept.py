"""Encoded answers that are kept as long as they hold, and those who wait for one of them to change."""

import asyncio
from collections import OrderedDict
from typing import Protocol

import msgspec

from discovery.model.delegate import CallingWatch
from discovery.telemetry import Sample

from .freshness import Terms


class Kept(msgspec.Struct, gc=False):
    """An encoded answer as of `index`, without the lines of the moment that belong between its parts."""

    start: bytes
    rest: bytes
    terms: Terms
    index: int = 0
    sample: Sample | None = None
    waiters: "Waiters | None" = None

    def wait(self, waiter: "Waiter") -> "Waiters":
        """Tell `waiter` when this has changed."""
        if self.waiters is None:
            self.waiters = Waiters(self.terms.watch)
        self.waiters.add(waiter)
        return self.waiters


class KeptAnswers:
    """Encoded answers by what was asked; the least recently used go first."""

    def __init__(self, *, max_entries: int, max_bytes: int) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, Kept] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, request: bytes) -> Kept | None:
        """The answer to `request` if it still holds."""
        kept = self._entries.get(request)
        if kept is None:
            return None
        if kept.terms.watch.fired:
            self._forget(request)
            return None
        self._entries.move_to_end(request)
        return kept

    def keep(self, request: bytes, kept: Kept) -> None:
        """Unless there is one that still holds: others may wait for that one to change."""
        size = _size(request, kept)
        if size > self._max_bytes // 8 or not self._max_entries or kept.terms.watch.fired or self.find(request) is not None:
            return
        self._entries[request] = kept
        self._bytes += size
        while self._bytes > self._max_bytes or len(self._entries) > self._max_entries:
            self._forget(next(iter(self._entries)))

    def _forget(self, request: bytes) -> None:
        self._bytes -= _size(request, self._entries.pop(request))


def _size(request: bytes, kept: Kept) -> int:
    return len(request) + len(kept.start) + len(kept.rest)


class Waiter(Protocol):
    """A client's blocking query."""

    def ask_for(self, others: "Waiters") -> None:
        """Ask again, and tell the `others` what the answer is, or that there is none."""

    def hear(self, kept: Kept, response: bytes) -> None:
        """`response` is what `kept` is for this client too."""

    def ask_alone(self) -> None:
        """Ask again, for oneself."""


class Waiters:
    """Those who wait for the same answer to change. Once it has, one of them asks again, and all get what that one gets."""

    __slots__ = ("_waiting", "_watch")

    def __init__(self, watch: CallingWatch) -> None:
        self._watch = watch
        self._waiting: dict[Waiter, None] = {}

    def add(self, waiter: Waiter) -> None:
        self._waiting[waiter] = None
        if len(self._waiting) == 1:
            self._watch.on_fire(self._changed)

    def remove(self, waiter: Waiter) -> None:
        self._waiting.pop(waiter, None)
        if not self._waiting:
            self._watch.cancel()

    def _changed(self) -> None:
        """Nobody is told in the middle of the change."""
        asyncio.get_running_loop().call_soon(self.ask_again)

    def ask_again(self) -> None:
        """One of them."""
        waiter = next(iter(self._waiting), None)
        if waiter is not None:
            del self._waiting[waiter]
            waiter.ask_for(self)

    def tell(self, kept: Kept, response: bytes) -> None:
        """The answer as it is now."""
        for waiter in self._leave():
            waiter.hear(kept, response)

    def part(self) -> None:
        """There was no answer for all."""
        for waiter in self._leave():
            waiter.ask_alone()

    def _leave(self) -> dict[Waiter, None]:
        waiting, self._waiting = self._waiting, {}
        return waiting
