"""Each statistic against scipy or statsmodels, and its rate of false findings in A/A tests."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
from scipy import stats
from statsmodels.stats.multitest import multipletests

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, by_segment, novelty
from botify.analytics.decision import horizon_bound, horizon_power, split_p_value
from botify.analytics.statistics import (
    ALARM,
    ConfidenceSequence,
    cuped,
    holm,
    interaction,
    quantile_values,
    ratio_values,
    running_sample,
    sample_ratio,
)
from botify.core.drift import mixture_bound
from botify.core.welch import Sample, mean_interval, welch


@pytest.mark.parametrize("seed", range(3))
def test_theta_is_the_slope_of_analysis_of_covariance(seed: int) -> None:
    rng = np.random.default_rng(seed)
    treated, before = rng.integers(0, 2, 300), rng.gamma(2.0, 2.0, 300)
    values = 0.7 * before + 0.5 * treated + rng.normal(size=300)
    adjusted = cuped(values, before, treated)
    fit = sm.OLS(values, sm.add_constant(np.column_stack([treated, before]))).fit()
    without = sm.OLS(values, sm.add_constant(treated)).fit()
    assert adjusted.theta == pytest.approx(fit.params[2], rel=1e-9)
    assert adjusted.variance_reduction == pytest.approx(1 - fit.ssr / without.ssr, rel=1e-9)
    difference = welch(*(Sample.of(adjusted.values[treated == arm]) for arm in (0, 1)))
    assert difference.estimate == pytest.approx(fit.params[1], rel=1e-9)


def test_new_users_keep_their_values_and_missing_values_stay_missing() -> None:
    adjusted = cuped([1.0, 2.0, np.nan, 9.0], [0.0, 1.0, 1.0, np.nan], ["C", "C", "C", "C"])
    assert adjusted.values[3] == 9.0
    assert np.isnan(adjusted.values[2])


@pytest.mark.parametrize("before", [[1.0, 1.0, 1.0], [np.nan] * 3])
def test_a_covariate_that_knows_nothing_changes_nothing(before: list[float]) -> None:
    adjusted = cuped([1.0, 2.0, 3.0], before, ["C", "C", "T1"])
    assert adjusted.values.tolist() == [1.0, 2.0, 3.0]
    assert adjusted.variance_reduction == 0.0


@pytest.mark.parametrize("seed", range(3))
def test_interaction_agrees_with_statsmodels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"a": rng.integers(0, 2, 500), "b": rng.integers(0, 3, 500)})
    frame["y"] = rng.normal(frame["a"] + 0.2 * frame["a"] * frame["b"], 1 + frame["b"])
    fit = smf.ols("y ~ C(a) * C(b)", frame).fit(cov_type="HC2")
    wald = fit.wald_test("C(a)[T.1]:C(b)[T.1] = C(a)[T.1]:C(b)[T.2] = 0", use_f=False, scalar=True)
    found = interaction(frame["y"], frame["a"], frame["b"])
    assert (found.statistic, found.p_value, found.df) == pytest.approx((wald.statistic, wald.pvalue, 2), rel=1e-9)


def test_an_empty_combination_is_refused_and_shown() -> None:
    with pytest.raises(AnalyticsError, match="two users"):
        interaction([1.0, 2.0, 3.0, 4.0], ["C", "C", "T1", "T1"], ["C", "C", "T1", "T1"])


def test_holm_agrees_with_statsmodels_and_what_was_not_tested_does_not_count() -> None:
    for p in np.random.default_rng(0).beta(0.3, 1.0, size=(5, 12)):
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], abs=1e-12)
    assert holm([0.02, np.nan, 0.01]) == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)


def test_agrees_with_the_sum_by_hand() -> None:
    ratio = sample_ratio({"C": 60, "T1": 40}, {"C": 1, "T1": 1})
    assert ratio.expected == {"C": 50, "T1": 50}
    assert ratio.p_value == pytest.approx(stats.chi2.sf(4.0, df=1), rel=1e-9)


@pytest.mark.parametrize(
    ("users", "split", "mismatch"),
    [
        ({"C": 9_000, "T1": 1_000}, None, True),
        ({"C": 9_000, "T1": 1_000}, {"C": 90, "T1": 10}, False),
        ({"C": 1_000}, {"C": 1, "T1": 1}, True),  # nobody got T1
        ({}, {"C": 1, "T1": 1}, False),
    ],
)
def test_a_split_is_a_mismatch_unless_it_was_declared(
    users: dict[str, int], split: dict[str, float] | None, mismatch: bool
) -> None:
    assert sample_ratio(users, split).mismatch == mismatch
    assert users or sample_ratio(users, split).p_value == 1.0


@pytest.mark.parametrize("split", [{"C": 1.0}, {"C": 1.0, "T1": 0.0}, {"C": 1.0, "T2": 1.0}])
def test_a_split_that_does_not_fit_is_refused(split: dict[str, float]) -> None:
    with pytest.raises(AnalyticsError, match="C, T1"):
        sample_ratio({"C": 5, "T1": 5}, split)


def test_the_p_value_is_the_alpha_whose_interval_ends_at_zero() -> None:
    arms = Sample(400, 1.0, 2.0), Sample(500, 1.3, 3.0)
    sequence = ConfidenceSequence(alpha=0.05, tuned_for=1_000)
    p = sequence.difference(*arms).p_value
    m = 900 * sequence.rho_squared
    half = math.sqrt((2 / 400 + 3 / 500) * 2 * (m + 1) / m * math.log(math.sqrt(m + 1) / p))
    assert half == pytest.approx(0.3, rel=1e-9)


def test_nothing_is_said_during_the_burn_in_and_all_of_values_that_never_vary() -> None:
    sequence = ConfidenceSequence(burn_in=50)
    early = sequence.difference(Sample(49, 0.0, 1.0), Sample(400, 9.0, 1.0))
    assert (early.lower, early.upper, early.p_value) == (-math.inf, math.inf, 1.0)
    assert sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 1.0, 0.0)).p_value == 1.0
    certain = sequence.difference(Sample(100, 1.0, 0.0), Sample(100, 2.0, 0.0))
    assert (certain.significant, certain.p_value) == (True, 0.0)


SPLITS, USERS = 1_000, 2_000


def test_who_looks_after_every_user_is_seldom_fooled() -> None:
    rng = np.random.default_rng(20)
    values = rng.poisson(rng.gamma(2.0, 3.0, USERS)) * rng.random(USERS)  # times: skewed, with tastes that differ
    sequence = ConfidenceSequence(tuned_for=USERS // 2)
    fooled = fooled_with_welch = 0
    for split in rng.random((SPLITS, USERS)) < 0.5:
        before, after = running_sample(values, ~split), running_sample(values, split)
        distance = np.abs(after.mean - before.mean)
        fooled += bool((distance > sequence.half_width(before, after)).any())
        error = np.sqrt(before.variance / before.n + after.variance / after.n)
        fooled_with_welch += bool((distance > 1.96 * error)[100:].any())
    assert fooled / SPLITS <= 0.05
    assert fooled_with_welch / SPLITS > 0.25  # what the sequence is for


RUNS, LISTENERS = 600, 400


def coverage(of: list[np.ndarray], truth: float) -> float:
    return float(np.mean([one.lower <= truth <= one.upper for one in map(mean_interval, of)]))


def test_a_ratio_is_covered() -> None:
    rng = np.random.default_rng(1)
    runs = [
        ratio_values(rng.gamma(2.0 * sessions) * (1 + (sessions > 6)), sessions)
        for sessions in rng.poisson(5.0, (RUNS, LISTENERS)) + 1
    ]
    many = rng.poisson(5.0, 10**6) + 1
    truth = float((2.0 * many * (1 + (many > 6))).sum() / many.sum())
    assert coverage(runs, truth) == pytest.approx(0.95, abs=0.03)


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_a_quantile_is_covered(level: float) -> None:
    rng = np.random.default_rng(2)
    runs = [quantile_values(rng.exponential(size=LISTENERS), level) for _ in range(RUNS)]
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


ALPHA, HORIZON, WALKS = 0.05, 1_000, 4_000
LOOKS = np.arange(50, HORIZON + 1)


def walks(drift: float = 0.0) -> np.ndarray:
    """Return standardised sums after each user, with a true effect of `drift` standard errors at the end."""
    rng = np.random.default_rng(5)
    values = rng.standard_exponential((WALKS, HORIZON)) - 1.0 + drift / np.sqrt(HORIZON)  # skewed, as times are
    return values.cumsum(axis=1)[:, LOOKS - 1] / np.sqrt(LOOKS)


@pytest.mark.parametrize(
    "bound", [mixture_bound(LOOKS, ALPHA, 300), horizon_bound(LOOKS, ALPHA, HORIZON)], ids=["mixture", "horizon"]
)
def test_all_looks_together_are_wrong_with_a_probability_of_alpha_at_most(bound: np.ndarray) -> None:
    wrong = (walks() >= bound).any(axis=1).mean()
    assert wrong < ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / WALKS)
    # a fixed-horizon test that is looked at as often is wrong several times as often
    assert (walks() >= 1.645).any(axis=1).mean() > 3 * ALPHA


def test_the_horizon_uses_up_alpha_and_has_the_power_of_its_formula() -> None:
    bound = horizon_bound(LOOKS, ALPHA, HORIZON)
    assert (walks() >= bound).any(axis=1).mean() > 0.6 * ALPHA
    assert (walks(2.6) >= bound).any(axis=1).mean() == pytest.approx(horizon_power(2.6, ALPHA), abs=0.03)


def test_a_split_is_looked_at_after_every_user() -> None:
    rng = np.random.default_rng(3)
    looks = np.arange(100, 4_000, 100)

    def alarms(share: float) -> float:
        treated = rng.random((300, 4_000)).__lt__(share).cumsum(axis=1)[:, looks - 1]
        p_values = [[split_p_value([n - t, t], [1, 1]) for n, t in zip(looks, row, strict=True)] for row in treated]
        return float((np.min(p_values, axis=1) < ALARM).mean())

    assert alarms(0.5) < 0.01
    assert alarms(0.57) > 0.9
