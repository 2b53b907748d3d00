"""The event loop's own lateness is measured and told."""

import asyncio
import logging
from collections.abc import Callable
from typing import cast

import pytest

from discovery.daemon.lag import INTERVAL, NOTABLE, LagMeter
from discovery.telemetry import Sample


class Loop:
    """Calls what it was asked to call when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due = 0.0
        self.call: Callable[[], None] = lambda: None

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, call: Callable[[], None]) -> None:
        self.due, self.call = when, call

    def act(self, late: float) -> None:
        self.now = self.due + late
        self.call()


def test_a_loop_that_is_held_up_is_measured_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    loop, sample = Loop(), Sample()
    LagMeter(cast(asyncio.AbstractEventLoop, loop), sample).start()
    with caplog.at_level(logging.WARNING):
        loop.act(late=0.0)
        assert caplog.text == ""
        loop.act(late=NOTABLE + 0.1)
    assert sample.total == pytest.approx(NOTABLE + 0.1)
    assert "the event loop was held up: late=350ms" in caplog.text
    assert loop.due == pytest.approx(loop.now + INTERVAL)
