"""When checks run, and what the thresholds let through."""

import asyncio
import random

import pytest

from discovery.local.checks.periodic import Periodic, Thresholds
from discovery.local.checks.result import Result, Tail, head
from discovery.model.definitions import CheckSpec
from tests.local.rig import now, simulate

P, W, C = "passing", "warning", "critical"


@pytest.mark.parametrize(
    ("passing", "warning", "critical", "results", "published"),
    [
        (0, 0, 0, [C, P, C], [C, P, C]),
        (3, 0, 0, [P, P, P], [P, P, P]),
        (3, 0, 0, [C, P, P, P], [C, None, None, P]),
        (3, 0, 0, [C, P, W, P], [C, None, None, P]),
        (0, 0, 3, [C, C], [C, C]),
        (0, 0, 3, [P, C, C, C], [P, None, None, C]),
        (0, 0, 3, [P, C, C, P, C, C, C], [P, None, None, P, None, None, C]),
        (0, 2, 3, [P, C, C, C], [P, None, W, C]),
        (0, 1, 3, [P, C, P, C, C, C], [P, W, P, W, W, C]),
        (0, 5, 3, [P, C, C, C], [P, None, None, C]),
    ],
)
def test_thresholds(passing: int, warning: int, critical: int, results: list[str], published: list[str | None]) -> None:
    spec = CheckSpec(success_before_passing=passing, failures_before_warning=warning, failures_before_critical=critical)
    thresholds = Thresholds.of(spec)
    found = [thresholds.filter(Result(status, "")) for status in results]
    assert [result and result.status for result in found] == published


class SlowProbe:
    """Takes its time, and notices if it is run twice at once."""

    def __init__(self, duration: float) -> None:
        self.duration = duration
        self.started: list[float] = []
        self.running = False

    async def run(self) -> Result:
        assert not self.running
        self.running = True
        self.started.append(now())
        await asyncio.sleep(self.duration)
        self.running = False
        return Result(P, "")


@pytest.mark.parametrize("seed", range(5))
def test_the_first_run_is_at_a_random_point_and_runs_never_overlap(seed: int) -> None:
    async def scenario() -> None:
        probe, published = SlowProbe(25.0), []
        check = Periodic(
            probe, 10.0, Thresholds(0, 0, 0), lambda *result: published.append(result), random.Random(seed), asyncio.create_task
        )
        begin, delay = now(), random.Random(seed).random() * 10
        check.start()
        await asyncio.sleep(delay + 80)
        check.stop()
        assert probe.started == pytest.approx([begin + delay, begin + delay + 35, begin + delay + 70])
        await asyncio.sleep(100)
        assert len(published) == 2, "nothing after stop"

    simulate(scenario())


@pytest.mark.parametrize("seed", range(5))
def test_quick_runs_do_not_drift(seed: int) -> None:
    async def scenario() -> None:
        probe = SlowProbe(0.0)
        check = Periodic(probe, 10.0, Thresholds(0, 0, 0), lambda *_: None, random.Random(seed), asyncio.create_task)
        durations = random.Random(seed)
        check.start()
        for _ in range(200):
            probe.duration = durations.uniform(0, 4.9)
            await asyncio.sleep(10)
        check.stop()
        assert probe.started == pytest.approx([probe.started[0] + 10 * number for number in range(200)])

    simulate(scenario())


def test_checks_registered_together_do_not_run_together() -> None:
    async def scenario() -> None:
        rng, probes = random.Random(7), [SlowProbe(0.0) for _ in range(50)]
        checks = [Periodic(probe, 10.0, Thresholds(0, 0, 0), lambda *_: None, rng, asyncio.create_task) for probe in probes]
        begin = now()
        for check in checks:
            check.start()
        await asyncio.sleep(10.001)
        delays = sorted(probe.started[0] - begin for probe in probes)
        assert delays[0] < 2
        assert delays[-1] > 8
        for check in checks:
            check.stop()

    simulate(scenario())


def test_no_check_runs_more_often_than_once_a_second() -> None:
    async def scenario() -> None:
        probe = SlowProbe(0.0)
        check = Periodic(probe, 0.1, Thresholds(0, 0, 0), lambda *_: None, random.Random(1), asyncio.create_task)
        check.start()
        await asyncio.sleep(10)
        check.stop()
        assert 9 <= len(probe.started) <= 10

    simulate(scenario())


def test_long_output_is_cut() -> None:
    tail = Tail(10)
    for part in (b"0123", b"456789", b"abc"):
        tail.add(part)
    assert (tail.text, tail.captured()) == ("3456789abc", "Captured 10 of 13 bytes\n...\n3456789abc")
    short = Tail(10)
    short.add(b"0123456789")
    assert short.captured() == "0123456789"
    assert head("0123456789", 10) == "0123456789"
    assert head("0123456789a", 10) == "0123456789 ... (captured 10 of 11 bytes)"
