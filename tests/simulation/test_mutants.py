"""Every mutant is killed: some universe violates an invariant with it."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import MUTANTS, mutated
from tests.simulation.run import run_universe

SEEDS = 2_000


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_killed(name: str) -> None:
    with mutated(name):
        assert any(run_universe(seed).violations for seed in range(SEEDS)), f"survived {SEEDS:,} universes"
