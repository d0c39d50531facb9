from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

from analytics.errors import AnalyticsError
from analytics.statistics.cuped import interaction


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_statsmodels(seed: int) -> None:
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
