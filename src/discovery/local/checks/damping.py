"""Which results of a check are published.

Three filters stand behind each other: the grace after a start, the thresholds (Consul's), and the hold-down after a failure.
"""

from collections.abc import Callable

import msgspec

from discovery.model.definitions import CheckSpec
from discovery.model.records import CRITICAL, WARNING

from .result import Result


class Thresholds(msgspec.Struct):
    """How many results in a row it takes: passing and warning count as success, critical as failure.

    Both counts start at their threshold, so that the very first result is let through.
    """

    before_passing: int
    before_warning: int
    before_critical: int
    successes: int = 0
    failures: int = 0

    @classmethod
    def of(cls, spec: CheckSpec) -> "Thresholds":
        critical = spec.failures_before_critical
        thresholds = cls(spec.success_before_passing, spec.failures_before_warning or critical, critical)
        thresholds.successes, thresholds.failures = thresholds.before_passing, critical
        return thresholds

    def filter(self, result: Result) -> Result | None:
        """What is to be published, if anything."""
        if result.status != CRITICAL:
            self.successes += 1
            self.failures = 0
            return result if self.successes >= self.before_passing else None
        self.failures += 1
        self.successes = 0
        if self.failures >= self.before_critical:
            return result
        return Result(WARNING, result.output) if self.failures >= self.before_warning else None


class Grace:
    """Failures do not count for `duration` seconds, until the first success: what is starting may take its time."""

    def __init__(self, duration: float, clock: Callable[[], float]) -> None:
        self._until = clock() + duration
        self._clock = clock
        self._over = duration <= 0

    def filter(self, result: Result) -> Result | None:
        self._over = self._over or result.status != CRITICAL or self._clock() >= self._until
        return result if self._over else None


class HoldDown:
    """After a failure was published, success is when no run has failed for `duration` seconds.

    So what fails every now and then is out of service, instead of coming and going.
    """

    def __init__(self, duration: float, clock: Callable[[], float]) -> None:
        self._duration = duration
        self._clock = clock
        self._down = False
        self._failed_at = 0.0

    def saw(self, result: Result) -> None:
        """Any result, published or not."""
        if result.status == CRITICAL:
            self._failed_at = self._clock()

    def filter(self, result: Result) -> Result | None:
        """What is about to be published."""
        if result.status == CRITICAL:
            self._down = True
        elif self._down and self._clock() - self._failed_at < self._duration:
            return None
        else:
            self._down = False
        return result


class Damping:
    """All filters of one check; `clock` is in seconds."""

    def __init__(self, spec: CheckSpec, clock: Callable[[], float]) -> None:
        self._grace = Grace(spec.startup_grace.seconds, clock)
        self._thresholds = Thresholds.of(spec)
        self._hold_down = HoldDown(spec.hold_down.seconds, clock)

    def filter(self, result: Result) -> Result | None:
        """What is to be published, if anything."""
        self._hold_down.saw(result)
        graced = self._grace.filter(result)
        counted = self._thresholds.filter(graced) if graced is not None else None
        return self._hold_down.filter(counted) if counted is not None else None
