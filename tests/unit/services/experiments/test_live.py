"""Invariant: a ramp adds listeners and moves none to another treatment; a decision serves one treatment to all."""

from __future__ import annotations

from pathlib import Path

import pytest

from botify.schemas.events import RampStep
from botify.services.experiments import Experiments
from tests.unit.services.experiments.loading import load

USERS = range(5_000)
DECLARED = """
[[experiment]]
name = "A"
{layer}
treatments = [{{ name = "C", recommender = "toppop" }}, {{ name = "T1", recommender = "sticky_artist" }}]
ramp = [0.01, 0.1, 0.5, 1.0]
"""


def step(share: float, arm: str | None = None) -> dict[str, RampStep]:
    return {"A": RampStep("A", share, arm, 0, 0, "because")}


def treatments(experiments: Experiments) -> dict[int, str]:
    return {user: arms["A"] for user in USERS if (arms := experiments.assign(user).treatments)}


@pytest.mark.parametrize(("layer", "whole"), [("", 1.0), ('layer = "ranking"\ntraffic = 0.2', 0.2)])
def test_each_step_keeps_the_listeners_of_the_last(tmp_path: Path, layer: str, whole: float) -> None:
    declared = load(tmp_path, DECLARED.format(layer=layer))
    before = treatments(declared.at({}))
    assert before == {}
    for share in (0.01, 0.1, 0.5, 1.0):
        now = treatments(declared.at(step(share)))
        assert before.items() <= now.items()
        assert len(now) / len(USERS) == pytest.approx(share * whole, abs=0.02)
        before = now


@pytest.mark.parametrize(("arm", "recommender"), [("C", "toppop"), ("T1", "sticky_artist")])
def test_a_decision_serves_one_arm_and_logs_no_treatment(tmp_path: Path, arm: str, recommender: str) -> None:
    decided = load(tmp_path, DECLARED.format(layer="")).at(step(1.0, arm))
    assert {decided.assign(user) for user in USERS if decided.assign(user).treatments} == set()
    assert {decided.assign(user).recommender for user in USERS} == {recommender}


def test_an_experiment_without_a_ramp_ignores_steps(tmp_path: Path) -> None:
    declared = load(tmp_path, '[[experiment]]\nname = "A"\naa = true')
    assert treatments(declared.at(step(0.01))) == treatments(declared)
