"""Each statistic against scipy or statsmodels, and its rate of false findings in A/A tests."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from botify.analytics import AnalyticsError
from botify.analytics.statistics import (
    ALARM,
    ConfidenceSequence,
    cuped,
    holm,
    interaction,
    running_sample,
    sample_ratio,
)
from botify.core.welch import Sample, welch


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


@pytest.mark.parametrize("seed", range(3))
def test_interaction_agrees_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.integers(0, 2, 500), "b": rng.integers(0, 3, 500)})
    frame["y"] = rng.normal(frame["a"] + 0.2 * frame["a"] * frame["b"], 1 + frame["b"])
    fit = smf.ols("y ~ C(a) * C(b)", frame).fit(cov_type="HC2")
    restriction = "C(a)[T.1]:C(b)[T.1] = C(a)[T.1]:C(b)[T.2] = 0"
    expected = fit.wald_test(restriction, use_f=False, scalar=True)
    found = interaction(frame["y"], frame["a"], frame["b"])
    assert found.df == 2
    assert found.statistic == pytest.approx(expected.statistic, rel=1e-9)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)


def test_effects_that_add_up_are_seldom_called_an_interaction() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(400):
        a, b = rng.integers(0, 2, (2, 400))
        found += interaction(rng.normal(a + b), a, b).p_value < 0.05
    assert found / 400 == pytest.approx(0.05, abs=0.03)


def test_an_empty_combination_is_refused_and_shown() -> None:
    with pytest.raises(AnalyticsError, match="two users"):
        interaction([1.0, 2.0, 3.0, 4.0], ["C", "C", "T1", "T1"], ["C", "C", "T1", "T1"])


@pytest.mark.parametrize("seed", range(5))
def test_holm_agrees_with_statsmodels(seed: int) -> None:
    p = np.random.default_rng(seed).beta(0.3, 1.0, size=12)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)


def test_what_was_not_tested_does_not_count() -> None:
    assert holm([0.02, np.nan, 0.01]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_nothing_to_adjust() -> None:
    assert holm([]).size == 0


def test_agrees_with_the_sum_by_hand() -> None:
    ratio = sample_ratio({"C": 60, "T1": 40}, {"C": 1, "T1": 1})
    assert ratio.expected == {"C": 50, "T1": 50}
    assert ratio.p_value == pytest.approx(stats.chi2.sf(4.0, df=1), rel=1e-9)


def test_an_uneven_split_is_no_mismatch_where_it_was_declared() -> None:
    assert sample_ratio({"C": 9_000, "T1": 1_000}).mismatch
    assert not sample_ratio({"C": 9_000, "T1": 1_000}, {"C": 90, "T1": 10}).mismatch


def test_a_treatment_that_nobody_got_is_a_mismatch() -> None:
    ratio = sample_ratio({"C": 1_000}, {"C": 1, "T1": 1})
    assert ratio.observed["T1"] == 0
    assert ratio.mismatch


def test_fair_splits_are_seldom_called_a_mismatch() -> None:
    in_control = np.random.default_rng(1).binomial(2_000, 0.5, size=2_000)
    alarms = sum(sample_ratio({"C": int(n), "T1": int(2_000 - n)}).mismatch for n in in_control)
    assert alarms <= stats.binom.ppf(0.999, 2_000, ALARM)


def test_no_users_split_like_anything() -> None:
    assert sample_ratio({}, {"C": 1, "T1": 1}).p_value == 1.0


@pytest.mark.parametrize("split", [{"C": 1.0}, {"C": 1.0, "T1": 0.0}, {"C": 1.0, "T2": 1.0}])
def test_a_split_that_does_not_fit_is_refused(split: dict[str, float]) -> None:
    with pytest.raises(AnalyticsError, match="C, T1"):
        sample_ratio({"C": 5, "T1": 5}, split)


def test_running_samples_equal_samples_made_anew_after_every_user() -> None:
    rng = np.random.default_rng(1)
    values, member = rng.gamma(2.0, size=60) + 1e6, rng.random(60) < 0.5
    running = running_sample(values, member)
    for i in range(60):
        sample = Sample.of(values[: i + 1][member[: i + 1]])
        assert running.n[i] == sample.n
        assert running.mean[i] == pytest.approx(sample.mean, rel=1e-9, nan_ok=True)
        assert running.variance[i] == pytest.approx(sample.variance, rel=1e-6, nan_ok=True)


def test_all_looks_at_once_equal_one_at_a_time() -> None:
    rng = np.random.default_rng(2)
    values, treated = rng.normal(size=300), rng.random(300) < 0.5
    sequence = ConfidenceSequence(tuned_for=200, burn_in=20)
    before, after = running_sample(values, ~treated), running_sample(values, treated)
    half = sequence.half_width(before, after)
    for i in range(0, 300, 7):
        arms = [Sample.of(values[: i + 1][treated[: i + 1] == arm]) for arm in (False, True)]
        difference = sequence.difference(*arms)
        if not math.isnan(difference.estimate):
            assert difference.upper - difference.estimate == pytest.approx(half[i], rel=1e-9)


def test_the_p_value_is_the_alpha_whose_interval_ends_at_zero() -> None:
    arms = Sample(400, 1.0, 2.0), Sample(500, 1.3, 3.0)
    sequence = ConfidenceSequence(alpha=0.05, tuned_for=1_000)
    p = sequence.difference(*arms).p_value
    m = 900 * sequence.rho_squared
    half = math.sqrt((2 / 400 + 3 / 500) * 2 * (m + 1) / m * math.log(math.sqrt(m + 1) / p))
    assert half == pytest.approx(0.3, rel=1e-9)


def test_it_is_narrowest_where_it_is_tuned_for() -> None:
    arms = Sample(500, 0.0, 1.0), Sample(500, 0.0, 1.0)
    tuned = ConfidenceSequence(tuned_for=1_000).difference(*arms).upper
    widths = [ConfidenceSequence(tuned_for=n).difference(*arms).upper for n in range(100, 10_000, 50)]
    assert tuned <= min(widths) * 1.001
    assert tuned / welch(*arms).upper == pytest.approx(1.55, abs=0.02)


def test_nothing_is_said_during_the_burn_in() -> None:
    difference = ConfidenceSequence(burn_in=50).difference(Sample(49, 0.0, 1.0), Sample(400, 9.0, 1.0))
    assert (difference.lower, difference.upper, difference.p_value) == (-math.inf, math.inf, 1.0)


def test_values_that_never_vary() -> None:
    sequence = ConfidenceSequence()
    assert sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 1.0, 0.0)).p_value == 1.0
    certain = sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 2.0, 0.0))
    assert certain.significant
    assert certain.p_value == 0.0


SPLITS = 1_000
USERS = 2_000


@pytest.fixture(scope="module")
def values() -> NDArray[np.float64]:
    """Times of listeners: skewed, with taste that differs from listener to listener."""
    rng = np.random.default_rng(20)
    return rng.poisson(rng.gamma(2.0, 3.0, USERS)) * rng.random(USERS)


@pytest.fixture(scope="module")
def splits() -> NDArray[np.bool_]:
    return np.random.default_rng(21).random((SPLITS, USERS)) < 0.5


def test_welch_finds_a_difference_in_one_split_of_twenty(
    values: NDArray[np.float64], splits: NDArray[np.bool_]
) -> None:
    found = sum(welch(Sample.of(values[~split]), Sample.of(values[split])).significant for split in splits)
    assert found / SPLITS == pytest.approx(0.05, abs=0.015)


def test_cuped_keeps_that_rate(values: NDArray[np.float64], splits: NDArray[np.bool_]) -> None:
    before = values + np.random.default_rng(22).normal(scale=values.std(), size=USERS)
    found = 0
    for split in splits:
        adjusted = cuped(values, before, split).values
        found += welch(Sample.of(adjusted[~split]), Sample.of(adjusted[split])).significant
    assert found / SPLITS == pytest.approx(0.05, abs=0.015)


def test_who_looks_after_every_user_is_seldom_fooled(values: NDArray[np.float64], splits: NDArray[np.bool_]) -> None:
    sequence = ConfidenceSequence(tuned_for=USERS // 2)
    fooled = fooled_with_welch = 0
    for split in splits:
        before, after = running_sample(values, ~split), running_sample(values, split)
        distance = np.abs(after.mean - before.mean)
        fooled += bool((distance > sequence.half_width(before, after)).any())
        error = np.sqrt(before.variance / before.n + after.variance / after.n)
        fooled_with_welch += bool((distance > 1.96 * error)[100:].any())
    assert fooled / SPLITS <= 0.05
    assert fooled_with_welch / SPLITS > 0.25  # what the sequence is for
