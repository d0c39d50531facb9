"""Invariants hold in every universe; a seed names one, byte for byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation import faults
from tests.simulation.__main__ import REPEATED, digests, first_of_the_day, report
from tests.simulation.run import SERVING_EVERY, plan_of, run_universe
from tests.simulation.timeline import timeline
from tests.simulation.topic import TOPICS

ROOT = Path(__file__).parents[2]
SEEDS = 60
"""`make universes` goes on to 10,000 of the same day, and a step of `.ci/run` to 3,000."""


def test_invariants_hold() -> None:
    first = first_of_the_day()
    print(f"seeds {first} to {first + SEEDS - 1}")
    for seed in range(first, first + SEEDS):
        result = run_universe(seed)
        assert not result.violations, report(result)


def test_a_seed_names_a_history() -> None:
    first = {seed: run_universe(seed).history.digest for seed in REPEATED}
    assert {seed: run_universe(seed).history.digest for seed in REPEATED} == first
    if committed := digests():
        assert first == committed, "if what processes do has changed: python -m tests.simulation --digests"
    assert len(set(first.values())) == len(REPEATED)
    program = (
        "from tests.simulation.run import run_universe\n"
        f"print([run_universe(seed).history.digest for seed in {REPEATED!r}])"
    )
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(  # noqa: S603  # this test's own program
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == str(list(first.values()))


def test_every_kind_of_fault_is_planned_and_over_in_time() -> None:
    planned = {seed: plan_of(seed) for seed in range(200)}
    assert {fault.kind for plan in planned.values() for fault in plan} == set(faults.KINDS)
    for seed, plan in planned.items():
        assert len(plan) >= 5
        for fault in plan:
            assert fault.at_s >= faults.FAULTS_FROM_S
            assert fault.at_s <= timeline(seed % TOPICS).at(faults.FAULTS_UNTIL_S)


@pytest.mark.parametrize("seed", range(SERVING_EVERY))
def test_a_universe_without_faults_is_quiet(seed: int) -> None:
    result = run_universe(seed, [])
    assert not result.violations, report(result)
    assert not any("FENCED" in line or "ROLLED_BACK" in line or "Error" in line for line in result.history.lines)
