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
        27,
        Fault(16.440197691505002, faults.POINTER_SWALLOWS, 19.85550541055764, 2),
        Fault(17.445566409708654, faults.BROKER_REFUSES, 2.588307482489527, 0),
        Fault(25.168710015227997, faults.STORE_SWALLOWS, 13.35471657849241, 4),
        Fault(35.48231336706235, faults.PAUSE, 324.2639242089603, 3),
        Fault(36.31373317600962, faults.STORE_REFUSES, 10.893499342985209, 2),
    )


def test_a_cancellation_is_swallowed_while_the_pointer_is_read() -> None:
    check(
        "a cancellation swallowed by the pointer is lost",
        1396,
        Fault(2.4336528307251295, faults.STORE_DUPLICATES, 3.4946671747162332, 0),
        Fault(7.477914768019892, faults.STORE_DUPLICATES, 9.535628915433795, 0),
        Fault(13.631650820556883, faults.POINTER_SWALLOWS, 8.11505162820728, 1),
        Fault(18.089846537436642, faults.STORE_SLOW, 3.228294020177607, 1),
        Fault(28.97145181396318, faults.POINTER_SWALLOWS, 16.367261595266655, 2),
        Fault(30.641383933190102, faults.STORE_SWALLOWS, 13.934098790935405, 2),
        Fault(38.00704432291786, faults.BROKER_LOSES_REPLIES, 4.873531268001501, 3),
    )


def test_a_replay_that_is_ahead_of_the_workers_is_swapped_in() -> None:
    check(
        "replay: a swap does not wait for the workers",
        1011,
        Fault(16.50504039216769, faults.STORE_LOSES_REQUESTS, 10.593770272914078, 1),
        Fault(23.427953688983155, faults.SWAP, 3.405040106717312, 0),
        Fault(27.205520990068827, faults.BROKER_SLOW, 14.541161202987478, 0),
    )


def check(mutant: str, seed: int, *happened: Fault) -> None:
    with mutated(mutant):
        assert run_universe(seed, happened).violations
    result = run_universe(seed, happened)
    assert not result.violations, report(result)
