"""Universes that have shown a bug, with the faults that it took."""

from __future__ import annotations

from tests.simulation import faults
from tests.simulation.__main__ import report
from tests.simulation.faults import Fault
from tests.simulation.run import run_universe


def test_a_swap_while_runs_wait_and_then_a_rebalance() -> None:
    check(
        12,
        Fault(7.367484995289949, faults.STORE_LOSES_REQUESTS, 0.965676624356061, 2),
        Fault(10.215941560305076, faults.BROKER_SLOW, 10.494970370929229, 1),
        Fault(33.67151188271163, faults.PAUSE, 19.730561410911825, 2),
        Fault(42.97062581929651, faults.SWAP, 11.021990374454885, 2),
    )


def test_a_cancellation_is_swallowed_while_the_pointer_is_read() -> None:
    check(
        236,
        Fault(10.201132458251939, faults.POINTER_SWALLOWS, 7.821388757777347, 2),
        Fault(13.447783336017888, faults.BROKER_REFUSES, 6.576475212718392, 2),
    )


def check(seed: int, *happened: Fault) -> None:
    result = run_universe(seed, happened)
    assert not result.violations, report(result)
