"""Measures how late the event loop is: all parts of the agent share it, Raft and gossip with their deadlines included."""

import asyncio
import logging
from typing import Final

from discovery.telemetry import Sample

_log = logging.getLogger(__name__)

INTERVAL: Final = 0.1
NOTABLE: Final = 0.25
"""Seconds late from which a line is logged; half of the leader's lease at `raft_multiplier = 1`."""


class LagMeter:
    """Asks to be called every `INTERVAL` seconds and observes how much later it is."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sample: Sample) -> None:
        self._loop = loop
        self._sample = sample
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._due = self._loop.time() + INTERVAL
        self._timer = self._loop.call_at(self._due, self._called)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _called(self) -> None:
        late = max(0.0, self._loop.time() - self._due)
        self._sample.observe(late)
        if late >= NOTABLE:
            _log.warning("the event loop was held up: late=%.0fms", late * 1000)
        self.start()
