"""Errors and intervals are over users."""

from __future__ import annotations

import numpy as np
import pytest

from botify.evaluation.figures import UserSums, paired_bootstrap, rows_of
from botify.evaluation.protocols import Terms
from botify.evaluation.run import Outcome, run
from tests.unit.evaluation.logs import Companions, Spy, planned, random_log


def outcome_of(users: np.ndarray, recall: np.ndarray) -> Outcome:
    n = len(users)
    metrics = {name: recall.astype(np.float32) for name in ("recall", "NDCG", "MRR")}
    return Outcome(users, np.linspace(0, 0.99, n), np.arange(n), np.ones(n, bool), metrics, {"coverage": 0.5}, "")


def test_copies_of_a_users_events_do_not_make_the_error_smaller() -> None:
    generator = np.random.default_rng(0)
    users, recall = np.arange(200), generator.integers(0, 2, 200)
    once = UserSums.of([outcome_of(users, recall)], 200).clustered("recall")
    often = UserSums.of([outcome_of(np.repeat(users, 9), np.repeat(recall, 9))], 200).clustered("recall")
    assert often == pytest.approx(once)
    assert once.error == pytest.approx(recall.std(ddof=1) / np.sqrt(200))


def test_the_paired_interval_is_narrower_than_the_difference_of_two_errors() -> None:
    generator = np.random.default_rng(1)
    users, base = np.arange(500), generator.integers(0, 2, 500)
    better = np.where(generator.random(500) < 0.1, 1, base)
    one, other = (UserSums.of([outcome_of(users, values)], 500) for values in (better, base))
    value, lower, upper = paired_bootstrap(one, other, "recall")
    assert lower < value < upper
    assert lower > 0
    assert value == pytest.approx((better - base).mean())
    assert upper - lower < 2 * one.clustered("recall").error


def test_the_interval_covers_the_truth() -> None:
    generator, covered = np.random.default_rng(2), 0
    users = np.repeat(np.arange(80), 4)
    for _ in range(200):
        gains = np.repeat(generator.normal(0.1, 1, 80), 4) + generator.normal(0, 0.5, 320)
        one, other = (UserSums.of([outcome_of(users, values)], 80) for values in (gains, np.zeros(320)))
        _, lower, upper = paired_bootstrap(one, other, "recall", resamples=200)
        covered += lower <= 0.1 <= upper
    assert 0.88 <= covered / 200 <= 0.99


def test_a_row_has_its_curves_and_the_baseline_no_difference() -> None:
    plan = planned(random_log())
    outcomes = {"spy": [run(Spy(), plan, Terms())], "companions": [run(Companions(), plan, Terms())]}
    spy, companions = rows_of(outcomes, "spy", 30)
    assert spy.differences == {}
    assert companions.differences["recall"].value == pytest.approx(companions.metrics["recall"].mean)
    assert companions.by_position["count"].sum() == len(plan.targets)
    assert companions.by_history["count"].sum() == plan.reported.sum()
    assert list(companions.by_position.index) == sorted(companions.by_position.index)
