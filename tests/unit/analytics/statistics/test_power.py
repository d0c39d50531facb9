from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower

from analytics.errors import AnalyticsError
from analytics.statistics.power import days_needed, power, smallest_effect, users_needed
from core.welch import Sample, welch


@pytest.mark.parametrize("effect", [0.1, 0.4, 1.0])
@pytest.mark.parametrize(("control", "treatment"), [(20, 20), (50, 200), (900, 100)])
def test_agrees_with_statsmodels(effect: float, control: int, treatment: int) -> None:
    expected = TTestIndPower().power(effect / 2.0, control, 0.05, ratio=treatment / control)
    assert power(effect, 2.0, control, treatment) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("effect", [0.03, 0.2, 3.0])
@pytest.mark.parametrize("ratio", [0.25, 1.0, 3.0])
def test_users_needed_are_just_enough(effect: float, ratio: float) -> None:
    control, treatment = users_needed(effect, 1.0, ratio=ratio)
    assert power(effect, 1.0, control, treatment) >= 0.8
    fewest = max(2, int(np.ceil(2 / ratio)))
    assert control == fewest or power(effect, 1.0, control - 1, max((control - 1) * ratio, 2)) < 0.8


def test_smallest_effect_has_the_wanted_power() -> None:
    effect = smallest_effect(2.0, 300, 500, wanted_power=0.9)
    assert power(effect, 2.0, 300, 500) == pytest.approx(0.9, rel=1e-9)


def test_the_planned_power_is_the_one_that_is_had() -> None:
    rng = np.random.default_rng(3)
    control, treatment = users_needed(0.4, 1.0)
    found = sum(
        welch(Sample.of(rng.normal(0.0, 1.0, control)), Sample.of(rng.normal(0.4, 1.0, treatment))).significant
        for _ in range(2_000)
    )
    assert found / 2_000 == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("wanted", [{"deviation": 0.0}, {"ratio": 0.0}, {"wanted_power": 1.0}])
def test_impossible_plans_are_refused(wanted: dict[str, float]) -> None:
    with pytest.raises(AnalyticsError, match="must be above 0"):
        users_needed(**{"effect": 0.1, "deviation": 1.0, **wanted})


def test_an_effect_that_nobody_could_see_is_refused() -> None:
    with pytest.raises(AnalyticsError, match="larger effect"):
        users_needed(1e-9, 1.0)


def test_days_that_are_not_enough_are_refused() -> None:
    assert days_needed(1, [1, 1]) == 1
    assert days_needed(2, [1, 1]) == 2
    with pytest.raises(AnalyticsError, match="2 come in 2 days"):
        days_needed(3, [1, 1])


@pytest.mark.parametrize("effect", [0.7, 1.3, 2.4, 10.0, -1.3])
def test_an_effect_that_nobody_could_miss_has_power_one(effect: float) -> None:
    assert power(effect, 1.0, 500, 500) == pytest.approx(1.0, abs=1e-12)


def test_the_smallest_effect_of_many_users_is_found() -> None:
    assert power(smallest_effect(1.0, 500, 500), 1.0, 500, 500) == pytest.approx(0.8, abs=1e-9)
