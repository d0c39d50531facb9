from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from core.welch import Sample, welch


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    control, treatment = rng.normal(3.0, 1.0, 40 + seed), rng.gamma(2.0, 2.0, 65)
    expected = stats.ttest_ind(treatment, control, equal_var=False)
    interval = expected.confidence_interval(0.95)
    difference = welch(Sample.of(control), Sample.of(treatment))
    assert difference.lower == pytest.approx(interval.low, rel=1e-9)
    assert difference.upper == pytest.approx(interval.high, rel=1e-9)
    assert difference.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_one_value_gives_no_interval() -> None:
    difference = welch(Sample.of([1.0]), Sample.of([2.0, 3.0]))
    assert difference.estimate == 1.5
    assert math.isnan(difference.lower)
    assert not difference.significant


def test_values_that_never_vary_differ_for_certain_or_not_at_all() -> None:
    assert welch(Sample.of([1, 1]), Sample.of([2, 2])).significant
    assert not welch(Sample.of([1, 1]), Sample.of([1, 1])).significant


def test_nobody_is_an_empty_sample() -> None:
    assert Sample.of([math.nan]).n == 0
