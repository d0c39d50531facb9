"""Universes that have shown a bug, with the faults that it took."""

from __future__ import annotations

import pytest

from tests.simulation import faults
from tests.simulation.__main__ import report
from tests.simulation.faults import Fault
from tests.simulation.universe import run_universe


@pytest.mark.xfail(strict=True, reason="`release` wakes one of two that wait to put into a full queue; `submit` hangs")
def test_a_swap_while_runs_wait_and_then_a_rebalance() -> None:
    slow_broker = Fault(7.027454460493052, faults.BROKER_SLOW, 14.508827537773493, 1)
    swap = Fault(11.208341024079726, faults.SWAP, 6.723553858487835, 1)
    frozen = Fault(19.148951605045823, faults.PAUSE, 17.00412080288712, 1)
    result = run_universe(108, [slow_broker, swap, frozen])
    assert not result.violations, report(result)
