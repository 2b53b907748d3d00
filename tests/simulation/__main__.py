"""Runs simulated clusters from seeds and tells which fail. The same seed and steps repeat the same run exactly."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.simulation.world import SimulationFailed, World


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=1, help="how many seeds to run")
    parser.add_argument("--steps", type=int, default=4000, help="events with faults, before the calm phase")
    parser.add_argument("--jobs", type=int, default=1, help="processes to run them in")
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
    if arguments.jobs == 1:
        yield from map(partial(simulate, arguments.steps), seeds)
        return
    with ProcessPoolExecutor(arguments.jobs) as pool:
        yield from pool.map(partial(simulate, arguments.steps), seeds, chunksize=8)


def simulate(steps: int, seed: int) -> tuple[int, str, Counter[str]]:
    world = World(seed, steps)
    failure = ""
    try:
        world.run()
    except SimulationFailed as error:
        failure = str(error)
    return seed, failure, world.counters + Counter({"events": world.step})


if __name__ == "__main__":
    sys.exit(main())
