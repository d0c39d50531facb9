from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analytics.errors import AnalyticsError
from analytics.statistics.power import ALARM, sample_ratio


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
