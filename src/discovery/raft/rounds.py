"""Heartbeat rounds: what the answers of a majority prove about the time when the round was sent (dissertation, 6.4).

Whoever answers a round has no newer leader at that time, and by stickiness elects none for a while. So once a majority has
answered, nobody else led when the round was sent: reads that came before it may be answered with what was committed by then,
and the lease runs from that time on.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator


class Rounds:
    """The rounds of one leader, numbered from 1, and the reads that wait for them."""

    def __init__(self) -> None:
        self.last = 0
        """The number of the newest round."""
        self.confirmed_at = -math.inf
        """When the newest round that a majority has answered was sent."""
        self._sent: deque[tuple[int, float]] = deque()
        self._waiting: list[int] = []
        self._reads: deque[tuple[int, int, list[int]]] = deque()
        self._released: list[tuple[int, int]] = []

    def begin(self, now: float) -> int:
        self.last += 1
        self._sent.append((self.last, now))
        return self.last

    def add_read(self, token: int) -> None:
        """A read that needs a round which begins after now."""
        self._waiting.append(token)

    def has_waiting_reads(self) -> bool:
        return bool(self._waiting)

    def has_reads_to_move(self) -> bool:
        """Reads that wait for a round to begin, or that may be answered."""
        return bool(self._waiting or self._released)

    def attach_reads(self, committed: int) -> None:
        """The reads that waited share the newest round, which has only just begun; `committed` is what they must see."""
        self._reads.append((self.last, committed, self._waiting))
        self._waiting = []

    def confirm(self, number: int) -> None:
        """A majority has answered round `number` and so all before it."""
        while self._sent and self._sent[0][0] <= number:
            self.confirmed_at = self._sent.popleft()[1]
        while self._reads and self._reads[0][0] <= number:
            _, index, tokens = self._reads.popleft()
            self._released += [(token, index) for token in tokens]

    def take_released(self) -> list[tuple[int, int]]:
        """(token, index) of the reads that may be answered once `index` is applied."""
        released, self._released = self._released, []
        return released

    def abandoned(self) -> Iterator[int]:
        """The reads that will not be answered, as leadership is lost."""
        for _, _, tokens in self._reads:
            yield from tokens
        yield from self._waiting
