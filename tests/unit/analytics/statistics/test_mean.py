from __future__ import annotations

import math

import numpy as np
import pytest
from statsmodels.stats.weightstats import DescrStatsW

from core.welch import mean_interval


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_statsmodels(seed: int) -> None:
    values = np.random.default_rng(seed).gamma(2.0, size=20 + seed)
    found = mean_interval([*values, math.nan], alpha=0.1)
    assert found.estimate == pytest.approx(values.mean(), rel=1e-9)
    assert (found.lower, found.upper) == pytest.approx(DescrStatsW(values).tconfint_mean(alpha=0.1), rel=1e-9)


def test_one_value_gives_no_interval() -> None:
    found = mean_interval([2.0])
    assert found.estimate == 2.0
    assert math.isnan(found.lower)
    assert math.isnan(found.upper)
