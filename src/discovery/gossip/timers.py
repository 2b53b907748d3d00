"""Deadlines and what to do then, driven by whoever knows the time."""

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass, field

Action = Callable[[float], None]
"""Called with the time at which it runs, in seconds of the caller's clock."""


@dataclass(order=True, slots=True)
class Timer:
    """One action to come."""

    when: float
    _order: int
    action: Action | None = field(compare=False)

    def cancel(self) -> None:
        self.action = None


class Timers:
    """Actions in the order of their deadlines. What is late runs once and late, never several times."""

    def __init__(self) -> None:
        self._heap: list[Timer] = []
        self._made = 0

    def at(self, when: float, action: Action) -> Timer:
        self._made += 1
        timer = Timer(when, self._made, action)
        heapq.heappush(self._heap, timer)
        return timer

    def earliest(self) -> float:
        """The next deadline; infinity if there is none."""
        while self._heap and self._heap[0].action is None:
            heapq.heappop(self._heap)
        return self._heap[0].when if self._heap else math.inf

    def postpone(self, seconds: float) -> None:
        """Move everything, as if the clock had stood still."""
        for timer in self._heap:
            timer.when += seconds

    def run_due(self, now: float) -> None:
        while self.earliest() <= now:
            action = heapq.heappop(self._heap).action
            if action is not None:
                action(now)
