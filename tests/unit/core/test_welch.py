"""Means, differences and ratios have the intervals of scipy and statsmodels, or hold the truth as often as they say."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.weightstats import DescrStatsW

from botify.core.welch import Difference, Sample, mean_interval, ratio_interval, welch


@pytest.mark.parametrize("seed", range(3))
def test_a_mean_agrees_with_statsmodels(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, size=20 + seed)
    found = mean_interval([*values, math.nan], alpha=0.1)
    assert found.estimate == pytest.approx(values.mean(), rel=1e-9)
    assert (found.lower, found.upper) == pytest.approx(DescrStatsW(values).tconfint_mean(alpha=0.1), rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    control, treatment = rng.normal(3.0, 1.0, 40 + seed), rng.gamma(2.0, 2.0, 65)
    expected = stats.ttest_ind(treatment, control, equal_var=False)
    found = welch(Sample.of(control), Sample.of(treatment))
    assert (found.lower, found.upper) == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_one_value_gives_no_interval() -> None:
    assert mean_interval([2.0]) == pytest.approx((2.0, math.nan, math.nan), nan_ok=True)
    difference = welch(Sample.of([1.0]), Sample.of([2.0, 3.0]))
    assert difference.estimate == 1.5
    assert math.isnan(difference.lower)
    assert not difference.significant
    assert ratio_interval([7, 7], [1.0, 1.0], [2.0, 4.0]) == pytest.approx((3.0, math.nan, math.nan), nan_ok=True)


def test_values_that_never_vary_differ_for_certain_or_not_at_all() -> None:
    assert welch(Sample.of([1, 1]), Sample.of([2, 2])).significant
    assert not welch(Sample.of([1, 1]), Sample.of([1, 1])).significant


def test_a_difference_in_percent_of_nothing_is_none() -> None:
    assert np.isnan(Difference(1.0, 0.5, 1.5, 0.01).in_percent_of(0.0)[:3]).all()


def test_a_ratio_holds_the_truth_as_often_as_it_says() -> None:
    rng, held = np.random.default_rng(1), 0
    for _ in range(400):
        liking = rng.gamma(2.0, size=200)  # listeners differ, and their sessions are alike
        users = np.repeat(np.arange(200), 3)
        control, treatment = (rng.exponential(liking[users] * mean) for mean in (1.0, 1.5))
        _, lower, upper = ratio_interval(users, control, treatment)
        held += lower <= 1.5 <= upper
    assert held / 400 == pytest.approx(0.95, abs=0.04)
