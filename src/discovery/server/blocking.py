"""Blocking queries: run a question, and if nothing newer is there, wait for the watch over it and run it again.

Source: Consul's documentation of blocking queries: the wait is 5 minutes by default and 10 at most, up to a sixteenth is
added at random so that watchers do not come back in step, and at the end of the wait the unchanged answer is given. Whoever waits
while the whole state is replaced is answered at once: indexes may be lower afterwards.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any

from discovery.model.query import Read
from discovery.state.store import StateStore
from discovery.state.watches import Watch

_JITTER_FRACTION = 16


class BlockingQueries:
    """Waits on behalf of readers. `default_wait` and `max_wait` are seconds."""

    def __init__(self, store: StateStore, rng: random.Random, *, default_wait: float = 300.0, max_wait: float = 600.0) -> None:
        self._store = store
        self._rng = rng
        self._default_wait = default_wait
        self._max_wait = max_wait
        self.waiting = 0
        """How many queries wait now."""

    async def run(
        self,
        question: Callable[[], Read[Any]],
        min_index: int,
        wait: float,
        confirm: Callable[[], Awaitable[None]] | None = None,
    ) -> Read[Any]:
        """The first answer whose index is above `min_index`, or the current one when `wait` seconds (0: the default) are over.

        `confirm` is awaited before the question is asked again, for readers who want more than this server's word.
        """
        read = question()
        if min_index == 0 or read.index > min_index:
            return read
        loop = asyncio.get_running_loop()
        deadline = self.deadline(loop.time(), wait)
        watches = self._store.watches
        upheavals = watches.upheavals
        self.waiting += 1
        try:
            while read.index <= min_index and loop.time() < deadline and watches.upheavals == upheavals:
                await self._changed(read, loop, deadline)
                if confirm is not None:
                    await confirm()
                read = question()
        finally:
            self.waiting -= 1
        return read

    def deadline(self, now: float, wait: float) -> float:
        """When a query that begins to wait now gives up."""
        wait = min(wait, self._max_wait) if wait > 0 else self._default_wait
        return now + wait + self._rng.uniform(0, wait / _JITTER_FRACTION)

    async def _changed(self, read: Read[Any], loop: asyncio.AbstractEventLoop, deadline: float) -> None:
        woken: asyncio.Future[None] = loop.create_future()

        def wake() -> None:
            if not woken.done():
                woken.set_result(None)

        watch: Watch = self._store.watches.watch(read.topics)
        watch.on_fire(wake)
        timer = loop.call_at(deadline, wake)
        try:
            await woken
        finally:
            timer.cancel()
            watch.cancel()
