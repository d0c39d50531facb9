"""Shrinking: drop faults one by one while the universe still fails."""

from __future__ import annotations

from tests.simulation.run import run_universe
from tests.simulation.universe import Result


def shrunk(failed: Result) -> Result:
    """Return a failing universe of the same seed from which no single fault can be taken.

    Its violation may be another one.
    """
    smaller = True
    while smaller:
        smaller = False
        for fault in failed.faults:
            without = run_universe(failed.seed, [other for other in failed.faults if other is not fault])
            if without.violations:
                failed, smaller = without, True
                break
    return failed
