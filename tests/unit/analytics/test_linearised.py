"""Invariant: the intervals of ratios and quantiles hold the truth as often as they say."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from botify.analytics.assignment import Assignment, by_segment, novelty
from botify.analytics.statistics import quantile_values, ratio_values
from botify.core.welch import mean_interval

RUNS, USERS = 600, 400


def coverage(of: list[np.ndarray], truth: float) -> float:
    intervals = [mean_interval(values) for values in of]
    return float(np.mean([one.lower <= truth <= one.upper for one in intervals]))


def test_a_ratio_is_covered() -> None:
    rng = np.random.default_rng(1)
    runs = []
    for _ in range(RUNS):
        sessions = rng.poisson(5.0, USERS) + 1
        runs.append(ratio_values(rng.gamma(2.0 * sessions) * (1 + (sessions > 6)), sessions))
    many = rng.poisson(5.0, 10**6) + 1
    truth = float((2.0 * many * (1 + (many > 6))).sum() / many.sum())
    assert coverage(runs, truth) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_quantile_is_covered(level: float) -> None:
    rng = np.random.default_rng(2)
    runs = [quantile_values(rng.exponential(size=USERS), level) for _ in range(RUNS)]
    assert coverage(runs, float(-np.log(1 - level))) == pytest.approx(0.95, abs=0.03)


def test_small_segments_are_left_out() -> None:
    users = pd.DataFrame({"treatment": "C"}, index=range(250))
    segment_of = pd.Series(["big"] * 150 + ["small"] * 99, index=range(249))
    assert [(name, len(of)) for name, of in by_segment(users, segment_of)] == [("big", 150)]


@pytest.mark.parametrize(("fades", "found"), [(0.0, False), (0.5, True)])
def test_a_fading_effect_is_found(fades: float, found: bool) -> None:
    rng = np.random.default_rng(4)
    user, ordinal = np.repeat(np.arange(400), 6), np.tile(np.arange(6), 400)
    time = rng.normal(3.0, 0.5, 2_400) + (user % 2) * (1.0 - fades * (ordinal >= 3))
    sessions = pd.DataFrame({"user": user, "started_ms": ordinal, "ended_ms": ordinal, "time": time})
    users = pd.DataFrame({"treatment": np.where(np.arange(400) % 2, "T1", "C"), "since_ms": 0})
    change = novelty(sessions, Assignment(users, 9, 0), "C", "T1")
    assert change.significant == found
    assert not found or change.upper < 0
