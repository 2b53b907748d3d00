"""What numbers are counted with: plain attributes that hot paths add to, and that are read when somebody looks.

Durations are observed in seconds; `scale` turns them into what is shown.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Final, Generic, TypeVar

import msgspec

WINDOW: Final = 10.0
"""Seconds of one window of the JSON view."""
MILLISECONDS: Final = 1000.0
PLAIN: Final = 1.0
_RECENT: Final = 512
_MAX_CHILDREN: Final = 1024
QUANTILES: Final = (0.5, 0.9, 0.99)


class Window(msgspec.Struct, frozen=True):
    """What was added during one window."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @property
    def deviation(self) -> float:
        """Of the sample."""
        if self.count < 2:
            return 0.0
        variance = (self.squares - self.total * self.total / self.count) / (self.count - 1)
        return math.sqrt(max(0.0, variance))


class Counter:
    """Counts events, or an amount per event."""

    __slots__ = ("_count", "_high", "_low", "_past_count", "_past_total", "_squares", "_total", "finished")

    def __init__(self) -> None:
        self._past_count = 0
        self._past_total = 0.0
        self.finished = Window()
        self._clear()

    def _clear(self) -> None:
        self._count = 0
        self._total = 0.0
        self._squares = 0.0
        self._low = float("inf")
        self._high = float("-inf")

    def inc(self, amount: float = 1.0) -> None:
        self._count += 1
        self._total += amount
        self._squares += amount * amount
        if amount < self._low:
            self._low = amount
        if amount > self._high:
            self._high = amount

    @property
    def count(self) -> int:
        return self._past_count + self._count

    @property
    def total(self) -> float:
        return self._past_total + self._total

    def current(self) -> Window:
        return Window(self._count, self._total, self._squares, self._low, self._high) if self._count else Window()

    def end_window(self) -> None:
        self.finished = self.current()
        self._past_count += self._count
        self._past_total += self._total
        self._clear()


class Sample(Counter):
    """The distribution of a quantity: durations in seconds, or plain numbers."""

    __slots__ = ("_recent", "scale")

    def __init__(self, scale: float = MILLISECONDS) -> None:
        super().__init__()
        self.scale = scale
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def observe(self, value: float) -> None:
        self.inc(value)
        self._recent.append(value)

    def end_window(self) -> None:
        if not self._count:
            self._recent.clear()
        super().end_window()

    def quantiles(self) -> list[float]:
        """At 0.5, 0.9 and 0.99 of what was observed lately; NaN where nothing was."""
        ordered = sorted(self._recent)
        if not ordered:
            return [float("nan")] * len(QUANTILES)
        return [ordered[min(len(ordered) - 1, int(quantile * len(ordered)))] for quantile in QUANTILES]

    def recent_mean(self) -> float:
        """Of what was observed lately; 0 where nothing was."""
        return sum(self._recent) / len(self._recent) if self._recent else 0.0


class Histogram(Sample):
    """A sample that is also counted in buckets; `bounds` are upper bounds, ascending."""

    __slots__ = ("_bounds", "_buckets")

    def __init__(self, bounds: Sequence[float], scale: float = MILLISECONDS) -> None:
        super().__init__(scale)
        self._bounds = tuple(bounds)
        self._buckets = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        super().observe(value)
        self._buckets[bisect_left(self._bounds, value)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bound and how many observations were not above it."""
        result: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*self._bounds, float("inf")), self._buckets, strict=True):
            total += count
            result.append((go_float(bound), float(total)))
        return result


class Gauge:
    """A number as it stands: the last one `set`, or what `read` says when somebody looks."""

    __slots__ = ("_value", "read")

    def __init__(self, read: Callable[[], float] | None = None) -> None:
        self._value = 0.0
        self.read = read

    def set(self, value: float) -> None:
        self._value = value

    @property
    def value(self) -> float:
        return float(self.read()) if self.read is not None else self._value


Instrument = Counter | Gauge
T = TypeVar("T", Counter, Sample)


class Family(Generic[T]):
    """Instruments that differ in the values of their labels. Beyond a limit further values share the child `other`."""

    def __init__(self, make: Callable[[], T], labels: Sequence[str]) -> None:
        self._make: Callable[[], T] = make
        self._other = ("other",) * len(labels)
        self._children: dict[tuple[str, ...], T] = {}

    def of(self, *values: str) -> T:
        child = self._children.get(values)
        if child is None:
            if len(self._children) >= _MAX_CHILDREN:
                values = self._other
            child = self._children.setdefault(values, self._make())
        return child

    def children(self) -> Iterator[tuple[tuple[str, ...], T]]:
        return iter(self._children.items())


def go_float(value: float) -> str:
    """A number as the exposition format writes it."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return "NaN" if math.isnan(value) else repr(value)
