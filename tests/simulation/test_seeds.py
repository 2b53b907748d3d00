"""A few hundred worlds. `scripts/simulate` runs more, and replays a single one."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from tests.simulation.__main__ import simulate
from tests.simulation.mutants import MUTANTS
from tests.simulation.world import SimulationFailed, World

SEEDS = 500
STEPS = 4000

REMEMBERED = [(112, 3000), (1326, 4000), (14543, 4000), (101553, 4000)]
"""(seed, steps) of runs that failed once, be it by a fault of the world itself."""

PATHS = (
    "cas done",
    "configurations fallen",
    "crash",
    "deafen",
    "delete done",
    "elections",
    "full windows",
    "isolate",
    "lease reads",
    "leaders known to be gone",
    "member changes",
    "mute",
    "pause",
    "read done",
    "rumour",
    "snapshots installed",
    "snapshots taken",
    "split",
    "stall",
    "starts from a snapshot",
    "torn writes cut",
    "transfers",
    "write unknown",
    "writes over other entries",
)
"""What must happen somewhere among the seeds, or they prove less than they seem to."""

Run = tuple[int, str, Counter[str]]


@pytest.fixture(scope="module")
def runs() -> list[Run]:
    """What came of each seed: the report of a failure, empty if there is none, and how often what happened."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(2, os.cpu_count() or 1), mp_context=context) as pool:
        return list(pool.map(partial(simulate, STEPS), range(SEEDS), chunksize=10))


def test_no_seed_fails(runs: list[Run]) -> None:
    failures = [failure for _, failure, _ in runs if failure]
    assert not failures, "\n\n".join(failures)


def test_the_seeds_reach_every_path(runs: list[Run]) -> None:
    counters: Counter[str] = Counter()
    for _, _, events in runs:
        counters.update(events)
    assert not [path for path in PATHS if not counters[path]], counters


def test_almost_every_history_is_decided(runs: list[Run]) -> None:
    """A history too tangled to judge is no evidence."""
    assert sum(events["undecided histories"] for _, _, events in runs) <= SEEDS // 50


@pytest.mark.parametrize(("seed", "steps"), REMEMBERED)
def test_what_failed_once_holds(seed: int, steps: int) -> None:
    World(seed, steps).run()


def test_a_seed_replays_exactly_in_any_process() -> None:
    """Neither the order of sets nor the clock of the machine leaks in."""
    program = "from tests.simulation.world import World; w = World(7, 3000); w.run(); print(w.trace_hash, w.step, w.time)"
    root = Path(__file__).parents[2]
    outcomes = {
        subprocess.run(
            [sys.executable, "-c", program],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{root / 'src'}:{root}"},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for hash_seed in ("0", "1", "4711")
    }
    assert len(outcomes) == 1, outcomes


def test_a_failure_prints_its_seed_and_replays_exactly() -> None:
    mutant = next(mutant for mutant in MUTANTS if mutant.name == "vote not persisted")
    reports = []
    for _ in range(2):
        with pytest.raises(SimulationFailed) as failure:
            World(3, STEPS, mutant).run()
        reports.append(str(failure.value))
    assert reports[0] == reports[1]
    assert reports[0].startswith("seed 3, step ")
