"""Every planted bug is found within a bounded number of seeds."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.world import SimulationFailed, World

SEEDS = 100
STEPS = 3000


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_simulator_finds(mutant: Mutant) -> None:
    assert any(fails(seed, mutant) for seed in range(SEEDS))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_is_the_bug_that_is_found(mutant: Mutant) -> None:
    """In the same kind of world, without the bug, nothing is found."""
    healthy = Mutant("none", worlds=mutant.worlds)
    assert not any(fails(seed, healthy) for seed in range(3))


def fails(seed: int, mutant: Mutant) -> bool:
    try:
        World(seed, STEPS, mutant).run()
    except SimulationFailed:
        return True
    return False
