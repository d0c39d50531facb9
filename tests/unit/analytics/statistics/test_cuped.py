from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm

from analytics.statistics.cuped import cuped
from core.welch import Sample, welch


@pytest.mark.parametrize("seed", range(3))
def test_theta_is_the_slope_of_analysis_of_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treated = rng.integers(0, 2, 300)
    before = rng.gamma(2.0, 2.0, 300)
    values = 0.7 * before + 0.5 * treated + rng.normal(size=300)
    adjusted = cuped(values, before, treated)
    fit = sm.OLS(values, sm.add_constant(np.column_stack([treated, before]))).fit()
    without = sm.OLS(values, sm.add_constant(treated)).fit()
    assert adjusted.theta == pytest.approx(fit.params[2], rel=1e-9)
    assert adjusted.variance_reduction == pytest.approx(1 - fit.ssr / without.ssr, rel=1e-9)
    difference = welch(*(Sample.of(adjusted.values[treated == arm]) for arm in (0, 1)))
    assert difference.estimate == pytest.approx(fit.params[1], rel=1e-9)


def test_the_mean_of_all_users_stays() -> None:
    rng = np.random.default_rng(4)
    values, before = rng.normal(size=(2, 50))
    assert cuped(values, before, rng.integers(0, 3, 50)).values.mean() == pytest.approx(values.mean(), rel=1e-9)


def test_new_users_keep_their_values_and_missing_values_stay_missing() -> None:
    adjusted = cuped([1.0, 2.0, np.nan, 9.0], [0.0, 1.0, 1.0, np.nan], ["C", "C", "C", "C"])
    assert adjusted.values[3] == 9.0
    assert np.isnan(adjusted.values[2])


@pytest.mark.parametrize("before", [[1.0, 1.0, 1.0], [np.nan] * 3])
def test_a_covariate_that_knows_nothing_changes_nothing(before: list[float]) -> None:
    adjusted = cuped([1.0, 2.0, 3.0], before, ["C", "C", "T1"])
    assert adjusted.values.tolist() == [1.0, 2.0, 3.0]
    assert adjusted.variance_reduction == 0.0


def test_noise_shrinks_by_what_the_covariate_explains() -> None:
    rng = np.random.default_rng(5)
    before = rng.normal(size=20_000)
    values = 0.8 * before + 0.6 * rng.normal(size=20_000)  # correlation 0.8, so 64 % are explained
    assert cuped(values, before, rng.integers(0, 2, 20_000)).variance_reduction == pytest.approx(0.64, abs=0.02)
