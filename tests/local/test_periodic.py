"""When checks run, and what the thresholds let through."""

import asyncio
import random
from itertools import pairwise

import pytest
import uvloop

from discovery.local.checks.damping import Damping, Thresholds
from discovery.local.checks.periodic import Periodic, Schedule
from discovery.local.checks.result import Probe, Publish, Result, Tail, head
from discovery.model.definitions import CheckSpec
from discovery.model.duration import Duration
from discovery.model.errors import RequestFailed
from tests.local.rig import now, simulate

P, W, C = "passing", "warning", "critical"
PLAIN = CheckSpec()


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


def periodic(
    probe: Probe, interval: float, seed: int, publish: Publish = lambda *_: None, *, delay: float = 0.0, spec: CheckSpec = PLAIN
) -> Periodic:
    damping, rng = Damping(spec, now), random.Random(seed)
    return Periodic(probe, Schedule(interval, delay), damping.filter, publish, rng, asyncio.create_task)


@pytest.mark.parametrize("seed", range(5))
def test_the_first_run_is_at_a_random_point_and_runs_never_overlap(seed: int) -> None:
    async def scenario() -> None:
        probe, published = SlowProbe(25.0), []
        check = periodic(probe, 10.0, seed, lambda *result: published.append(result))
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
        check = periodic(probe, 10.0, seed)
        durations = random.Random(seed)
        check.start()
        for _ in range(200):
            probe.duration = durations.uniform(0, 4.9)
            await asyncio.sleep(10)
        check.stop()
        assert probe.started == pytest.approx([probe.started[0] + 10 * number for number in range(200)])

    simulate(scenario())


def test_timers_that_are_early_double_no_run() -> None:
    """On the loop that agents use, whose timers may be."""

    async def scenario() -> None:
        probes = [SlowProbe(0.0) for _ in range(300)]
        checks = [periodic(probe, 1.0, seed) for seed, probe in enumerate(probes)]
        for check in checks:
            check.start()
        await asyncio.sleep(2.5)
        for check in checks:
            check.stop()
        for probe in probes:
            assert all(later - earlier > 0.5 for earlier, later in pairwise(probe.started))

    uvloop.run(scenario())


def test_checks_registered_together_do_not_run_together() -> None:
    async def scenario() -> None:
        probes = [SlowProbe(0.0) for _ in range(50)]
        checks = [periodic(probe, 10.0, seed) for seed, probe in enumerate(probes)]
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
        check = periodic(probe, 0.1, 1)
        check.start()
        await asyncio.sleep(10)
        check.stop()
        assert 9 <= len(probe.started) <= 10

    simulate(scenario())


class Scripted:
    """Gives one status after the other, the last one again and again."""

    def __init__(self, statuses: str) -> None:
        self._statuses = statuses
        self.started: list[float] = []

    async def run(self) -> Result:
        self.started.append(now())
        letter = self._statuses[min(len(self.started), len(self._statuses)) - 1]
        return Result({"p": P, "w": W, "c": C}[letter], "")


def published_by(statuses: str, seconds: float, *, delay: float = 0.0, **fields: Duration) -> list[tuple[float, str]]:
    """When, counted from the first run of a check that runs each second, which status was published."""

    async def scenario() -> list[tuple[float, str]]:
        probe, found = Scripted(statuses), []
        spec = CheckSpec(**fields)
        publish: Publish = lambda status, _: found.append((now(), status))  # noqa: E731
        check = periodic(probe, 1.0, 3, publish, delay=delay, spec=spec)
        check.start()
        await asyncio.sleep(seconds)
        check.stop()
        return [(round(at - probe.started[0], 3), status) for at, status in found]

    return simulate(scenario())


def test_the_first_run_may_be_delayed() -> None:
    async def scenario() -> None:
        probe = Scripted("p")
        begin = now()
        check = periodic(probe, 10.0, 1, delay=60.0)
        check.start()
        await asyncio.sleep(100)
        check.stop()
        assert 60 <= probe.started[0] - begin < 70
        assert probe.started[1] - probe.started[0] == pytest.approx(10)

    simulate(scenario())


def test_failures_do_not_count_while_something_starts() -> None:
    ten = Duration.from_seconds(10)
    assert published_by("cccpcp", 6, startup_grace=ten) == [(3, P), (4, C), (5, P)]
    late = published_by("c", 14, startup_grace=ten)
    assert late[0][1] == C
    assert 9 <= late[0][0] <= 10
    assert published_by("wc", 3, startup_grace=ten) == [(0, W), (1, C), (2, C)]


def test_what_fails_now_and_then_stays_down_until_it_has_not_failed_for_long_enough() -> None:
    hold = Duration.from_seconds(5)
    flapping = published_by("p" + "cp" * 50, 60, hold_down=hold)
    assert flapping[0] == (0, P)
    assert {status for _, status in flapping[1:]} == {C}, "one transition, not a hundred"
    assert published_by("pcppppppp", 8.5, hold_down=hold) == [(0, P), (1, C), (6, P), (7, P), (8, P)]
    assert published_by("pcpppcppppppp", 12.5, hold_down=hold) == [(0, P), (1, C), (5, C), (10, P), (11, P), (12, P)]
    assert published_by("ppp", 3, hold_down=hold) == [(0, P), (1, P), (2, P)], "nothing has failed yet"


def test_hold_down_counts_failures_that_thresholds_hide() -> None:
    hold = Duration.from_seconds(3)
    hidden = published_by("pccpcpppppp", 10.5, hold_down=hold, failures_before_critical=2)  # type: ignore[arg-type]
    assert hidden == [(0, P), (2, C), (7, P), (8, P), (9, P), (10, P)]


def test_a_run_on_demand_comes_at_once_and_leaves_the_beat_alone() -> None:
    async def scenario() -> None:
        probe, found = Scripted("ppcp"), []
        check = periodic(probe, 10.0, 3, lambda *result: found.append(result[0]))
        begin, delay = now(), random.Random(3).random() * 10
        check.start()
        await asyncio.sleep(delay + 12)
        asked = now()
        both = await asyncio.gather(check.run_now(), check.run_now())
        assert [each.status for each in both] == [C, C]
        assert now() == asked
        await asyncio.sleep(10)
        check.stop()
        assert probe.started == pytest.approx([begin + delay, begin + delay + 10, asked, begin + delay + 20])
        assert found == [P, P, C, P]

    simulate(scenario())


def test_a_run_on_demand_begins_after_it_was_asked_for() -> None:
    async def scenario() -> None:
        probe = SlowProbe(3.0)
        check = periodic(probe, 10.0, 1)
        check.start()
        await asyncio.sleep(random.Random(1).random() * 10 + 0.1)
        assert probe.running
        asked = now()
        await check.run_now()
        assert probe.started[1] > asked
        check.stop()

    simulate(scenario())


def test_who_waits_for_a_run_hears_of_the_end_of_the_check() -> None:
    async def scenario() -> None:
        check = periodic(SlowProbe(100.0), 10.0, 1)
        check.start()
        waiting = asyncio.ensure_future(check.run_now())
        await asyncio.sleep(5)
        check.stop()
        with pytest.raises(RequestFailed, match="removed or changed"):
            await waiting

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
