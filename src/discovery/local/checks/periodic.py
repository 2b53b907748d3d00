"""Runs a probe again and again, and publishes what the thresholds let through.

The first run is at a random point of the interval, so that checks registered together don't fire together. Runs never overlap:
quick ones begin one interval apart, so that thousands of checks keep their spread; after one that took half the interval or
more, the next begins one interval after its end.
"""

import asyncio
import random

import msgspec

from discovery.model.definitions import CheckSpec
from discovery.model.records import CRITICAL, WARNING

from .result import Probe, Publish, Result, Spawn

MIN_INTERVAL = 1.0
"""Seconds."""


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


class Periodic:
    """The runner of every check that has an interval (seconds)."""

    def __init__(
        self, probe: Probe, interval: float, thresholds: Thresholds, publish: Publish, rng: random.Random, spawn: Spawn
    ) -> None:
        self._probe = probe
        self._interval = max(interval, MIN_INTERVAL)
        self._thresholds = thresholds
        self._publish = publish
        self._rng = rng
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._spawn(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._rng.random() * self._interval
        while True:
            await asyncio.sleep(due - loop.time())
            result = self._thresholds.filter(await self._probe.run())
            if result is not None:
                self._publish(*result)
            ended = loop.time()
            due = (due if ended - due < self._interval / 2 else ended) + self._interval
