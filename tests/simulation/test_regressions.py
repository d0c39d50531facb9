"""Universes that have shown a bug, with the faults that it took: they fail with the mutant that brings it back only."""

from __future__ import annotations

from tests.simulation import faults
from tests.simulation.__main__ import report
from tests.simulation.faults import Fault
from tests.simulation.mutants import mutated
from tests.simulation.run import run_universe


def test_a_swap_while_runs_wait() -> None:
    check(
        "a released run is not dropped",
        5,
        Fault(24.70361495303079, faults.PAUSE, 22.14585889439589, 3),
        Fault(47.448374390585556, faults.SWAP, 11.935931525582026, 0),
    )


def test_a_replay_that_is_ahead_of_the_workers_is_swapped_in() -> None:
    check(
        "replay: a swap does not wait for the workers",
        15,
        Fault(17.348226350042587, faults.STORE_SLOW, 7.945016717153956, 1),
        Fault(18.900897251537117, faults.CRASH, 3.069256962283577, 2),
    )


def check(mutant: str, seed: int, *happened: Fault) -> None:
    with mutated(mutant):
        assert run_universe(seed, happened).violations
    result = run_universe(seed, happened)
    assert not result.violations, report(result)
