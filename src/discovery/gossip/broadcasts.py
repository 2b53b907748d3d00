"""What is still to be told: a queue whose entries leave after enough transmissions, or when something newer replaces them.

Those sent least come first; among equals the larger, then the newer. SWIM's own claims are named by the node they are
about, and a newer claim about a node replaces the older; Serf's messages have no name.
"""

from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

_SMALLEST: Final = 3
"""Bytes below which no message fits."""


@dataclass(slots=True, order=True)
class _Broadcast:
    transmissions: int
    _size: int
    _age: int
    message: bytes = field(compare=False)
    name: str | None = field(compare=False)
    finished: Callable[[float], None] | None = field(compare=False)


class Broadcasts:
    """`limit()` tells how often each message is sent now; beyond `capacity` the most often sent are forgotten."""

    def __init__(self, limit: Callable[[], int], capacity: int = 4096) -> None:
        self._limit = limit
        self._capacity = capacity
        self._queue: list[_Broadcast] = []
        self._named: dict[str, _Broadcast] = {}
        self._made = 0

    def __len__(self) -> int:
        return len(self._queue)

    def __contains__(self, name: str) -> bool:
        """Whether something named so is still to be told."""
        return name in self._named

    def add(
        self, message: bytes, now: float, *, name: str | None = None, finished: Callable[[float], None] | None = None
    ) -> None:
        """Queue a message. `finished` is called once it has been sent often enough, was replaced, or was forgotten."""
        self._made += 1
        broadcast = _Broadcast(0, -len(message), -self._made, message, name, finished)
        if name is not None:
            self._replace(name, broadcast, now)
        insort(self._queue, broadcast)
        if len(self._queue) > self._capacity:
            self._drop(self._queue[-1], now)

    def take(self, room: int, overhead: int, now: float) -> list[bytes]:
        """Messages for one packet: together with `overhead` bytes for each they are no longer than `room`."""
        if not self._queue:
            return []
        taken: list[_Broadcast] = []
        for broadcast in self._queue:
            cost = len(broadcast.message) + overhead
            if cost <= room:
                taken.append(broadcast)
                room -= cost
            elif room < _SMALLEST + overhead:
                break
        if taken:
            self._sent(taken, now)
        return [broadcast.message for broadcast in taken]

    def _sent(self, taken: list[_Broadcast], now: float) -> None:
        limit = self._limit()
        sent = {id(broadcast) for broadcast in taken}
        self._queue = [broadcast for broadcast in self._queue if id(broadcast) not in sent]
        for broadcast in taken:
            broadcast.transmissions += 1
            if broadcast.transmissions < limit:
                insort(self._queue, broadcast)
            else:
                self._finish(broadcast, now)

    def _replace(self, name: str, broadcast: _Broadcast, now: float) -> None:
        older = self._named.get(name)
        if older is not None:
            self._drop(older, now)
        self._named[name] = broadcast

    def _drop(self, broadcast: _Broadcast, now: float) -> None:
        self._queue = [other for other in self._queue if other is not broadcast]
        self._finish(broadcast, now)

    def _finish(self, broadcast: _Broadcast, now: float) -> None:
        if broadcast.name is not None and self._named.get(broadcast.name) is broadcast:
            del self._named[broadcast.name]
        if broadcast.finished is not None:
            broadcast.finished(now)
