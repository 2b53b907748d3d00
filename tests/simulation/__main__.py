"""Runs simulated clusters from seeds and tells which fail. The same seed and steps repeat the same run exactly."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from unittest.mock import patch

from discovery.storage import checkpoints
from tests.simulation.world import SimulationFailed, World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run")
    parser.add_argument("--steps", type=int, default=4000, help="events with faults, before the calm phase")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
    parser.add_argument("--stored", action="store_true", help="on real logs in a temporary directory")
    arguments = parser.parse_args()
    counters: Counter[str] = Counter()
    failed = []
    started = time.monotonic()
    for seed, failure, events in results(arguments):
        counters.update(events)
        if failure:
            failed.append(seed)
            print(failure, end="\n\n", flush=True)
    took = time.monotonic() - started
    print(f"{arguments.seeds} seeds, {len(failed)} failed {failed}, {took:.1f} s, {arguments.seeds / took:.1f} seeds/s")
    print(", ".join(f"{name} {count}" for name, count in sorted(counters.items())))
    return 1 if failed else 0


def results(arguments: argparse.Namespace) -> Iterator[tuple[int, str, Counter[str]]]:
    """What came of each seed, in order; the text is empty if all was well."""
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    work = partial(simulate_stored if arguments.stored else simulate, arguments.steps)
    if arguments.jobs == 1:
        yield from map(work, seeds)
        return
    with ProcessPoolExecutor(arguments.jobs) as pool:
        yield from pool.map(work, seeds, chunksize=8)


def simulate(steps: int, seed: int, directory: Path | None = None) -> tuple[int, str, Counter[str]]:
    world = World(seed, steps, directory=directory)
    failure = ""
    try:
        world.run()
    except SimulationFailed as error:
        failure = str(error)
    return seed, failure, world.counters + Counter({"events": world.step})


def simulate_stored(steps: int, seed: int) -> tuple[int, str, Counter[str]]:
    """Never so much is written that the store would begin a checkpoint beside the run, of which nobody knows when it ends."""
    with tempfile.TemporaryDirectory() as directory, patch.object(checkpoints, "THRESHOLD", 1 << 40):
        return simulate(steps, seed, Path(directory))


if __name__ == "__main__":
    sys.exit(main())
