"""Runs a probe again and again, and publishes what the filters let through.

The first run is at a random point of the interval, so that checks registered together don't fire together. Runs never overlap:
quick ones begin one interval apart, so that thousands of checks keep their spread; after one that took half the interval or
more, the next begins one interval after its end.
"""

import asyncio
import random
from collections.abc import Callable
from typing import Final

import msgspec

from discovery.model.errors import RequestFailed

from .result import Probe, Publish, Result, Spawn

MIN_INTERVAL: Final = 1.0
"""Seconds."""


class Schedule(msgspec.Struct, frozen=True):
    """Seconds. `delay` goes before the random point of the first interval."""

    interval: float
    delay: float = 0.0


class Periodic:
    """The runner of every check that has an interval; `filter` tells what of a result is published."""

    def __init__(
        self,
        probe: Probe,
        schedule: Schedule,
        filter: Callable[[Result], Result | None],
        publish: Publish,
        rng: random.Random,
        spawn: Spawn,
    ) -> None:
        self._probe = probe
        self._interval = max(schedule.interval, MIN_INTERVAL)
        self._delay = schedule.delay
        self._filter = filter
        self._publish = publish
        self._rng = rng
        self._spawn = spawn
        self._task: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self._waiting: list[asyncio.Future[Result]] = []

    def start(self) -> None:
        self._task = self._spawn(self._run())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
        for future in self._waiting:
            if not future.done():
                future.set_exception(RequestFailed("the check was removed or changed"))

    async def run_now(self) -> Result:
        """The result of a run that begins after this call; raises `RequestFailed` if the check is stopped before that."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        self._asked.set()
        return await future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time() + self._delay + self._rng.random() * self._interval
        while True:
            on_demand = await self._asked_before(due)
            answered = len(self._waiting)
            self._take(await self._probe.run(), answered)
            if not on_demand:
                ended = loop.time()
                due = (due if ended - due < self._interval / 2 else ended) + self._interval

    async def _asked_before(self, due: float) -> bool:
        """Whether somebody asked for a run before the next one was due."""
        self._asked.clear()
        if self._waiting:
            return True
        try:
            async with asyncio.timeout_at(due):
                await self._asked.wait()
        except TimeoutError:
            # uvloop's timers may be early by some of a millisecond, so the clock would not tell.
            return False
        return True

    def _take(self, result: Result, answered: int) -> None:
        """`answered`: how many of those who asked did so before the run began."""
        published = self._filter(result)
        if published is not None:
            self._publish(*published)
        for future in self._waiting[:answered]:
            if not future.done():
                future.set_result(result)
        del self._waiting[:answered]
