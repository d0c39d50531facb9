"""Mutants are killed: some universe violates an invariant with each. `make mutants` runs all, the tests some."""

import pytest

from tests.simulation.mutants import MUTANTS, killed_by, mutated, recorded

KILLED_SOON = {
    "the checkpoint is not compared",
    "applied before the publication is acknowledged",
    "a swallowed cancellation is lost",
    "what memory lacks is not read",
    "learner: a stored state is not loaded",
    "recommender: committed before the acknowledgement",
    "gateway: nothing expires",
    "Redis: a claim does not note its owner",
    "Redis: a claim does not raise the epoch",
}


@pytest.mark.parametrize("name", sorted(KILLED_SOON))
def test_the_mutant_is_killed(name: str) -> None:
    assert killed_by(name, 200, recorded().get(name)) is not None


@pytest.mark.parametrize("name", MUTANTS)
def test_the_mutant_is_one_of_the_shipped_code(name: str) -> None:
    with mutated(name):
        pass
