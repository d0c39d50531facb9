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


def test_a_cancellation_is_swallowed_while_the_pointer_is_read() -> None:
    check(
        "a cancellation swallowed by the pointer is lost",
        272,
        Fault(10.991066451289642, faults.STORE_DUPLICATES, 10.312306329184855, 1),
        Fault(17.06165508185061, faults.BROKER_REFUSES, 5.156176906472467, 4),
        Fault(17.727816938038693, faults.BROKER_SLOW, 12.19468311689915, 4),
        Fault(18.231069210599077, faults.POINTER_SWALLOWS, 16.712750734074838, 0),
        Fault(23.247274092485505, faults.BROKER_LOSES_REPLIES, 2.486085144545351, 1),
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
