"""Power against scipy and simulation, and plans from listens."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestIndPower

from botify.analytics import AnalyticsError
from botify.analytics.cli import render_plan
from botify.analytics.planning import Wanted, days_needed, plan_experiment, power, smallest_effect
from botify.analytics.sessions import DAY_MS


@pytest.fixture(scope="module")
def sessions() -> pd.DataFrame:
    """Of 1,000 listeners, fifty of whom come for the first time each day; half come a second time."""
    rng = np.random.default_rng(1)
    users = np.concatenate([np.arange(1_000), np.arange(0, 1_000, 2)])
    started_ms, time = users // 50 * DAY_MS + np.arange(1_500), rng.gamma(3.0, size=1_500)
    columns = {"user": users, "started_ms": started_ms, "time": time, "tracks": 3, "requests": 2, "latency_ms": 9.0}
    return pd.DataFrame(columns)


def test_planning_agrees_with_statsmodels(sessions: pd.DataFrame) -> None:
    plan = plan_experiment(sessions, Wanted("time", effect=-15.0, wanted_power=0.9))
    time = sessions.groupby("user")["time"].sum()
    assert (plan.mean, plan.deviation) == pytest.approx((time.mean(), time.std()), rel=1e-12)
    size = TTestIndPower().solve_power(0.15 * time.mean() / time.std(), power=0.9, alpha=0.05)
    assert plan.users_each == np.ceil(size)
    assert plan.days == np.ceil(2 * plan.users_each / 50)


def test_users_who_do_not_come_in_the_data_are_not_promised(sessions: pd.DataFrame) -> None:
    plan = plan_experiment(sessions, Wanted("time", effect=1.0, treatments=2))
    assert plan.days is None
    assert 1.0 < plan.smallest_effect < 30.0


def test_cuped_saves_its_share_of_the_users(sessions: pd.DataFrame) -> None:
    plain, less = (plan_experiment(sessions, Wanted("time", 5.0, variance_reduction=r)).users_each for r in (0.0, 0.5))
    assert less / plain == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (Wanted("tiem", 5.0), "unknown metric 'tiem'; choose one of mean_time"),
        (Wanted("time", 0.0), "the effect 0.0 must not be 0"),
        (Wanted("time", 5.0, variance_reduction=1.0), "variance reduction 1.0"),
        (Wanted("time", 5.0, wanted_power=1.0), r"power 1\.0"),
        (Wanted("mean_request_latency", 5.0), "deviation 0.0 must be above 0"),
        (Wanted("time", 1e-6), "larger effect"),
    ],
)
def test_impossible_wishes_are_refused(sessions: pd.DataFrame, wanted: Wanted, message: str) -> None:
    with pytest.raises(AnalyticsError, match=message):
        plan_experiment(sessions, wanted)
    with pytest.raises(AnalyticsError, match="3 listeners have time, too few"):
        plan_experiment(sessions[:3], Wanted("time", 5.0))


def test_the_plan_is_drawn(sessions: pd.DataFrame) -> None:
    wanted = Wanted("time", 10.0)
    table = render_plan(wanted, plan_experiment(sessions, wanted))
    assert table.title == "To detect +10 % time with a probability of 0.8"
    assert "effect that 1,000 listeners detect" in list(table.columns[0].cells)


@pytest.mark.parametrize("effect", [0.1, 0.4, 1.0])
@pytest.mark.parametrize(("control", "treatment"), [(20, 20), (50, 200), (900, 100)])
def test_power_agrees_with_statsmodels(effect: float, control: int, treatment: int) -> None:
    expected = TTestIndPower().power(effect / 2.0, control, 0.05, ratio=treatment / control)
    assert power(effect, 2.0, control, treatment) == pytest.approx(expected, rel=1e-9)


def test_days_that_are_not_enough_are_none() -> None:
    assert [days_needed(users, [1, 1]) for users in (1, 2, 3)] == [1, 2, None]
    assert days_needed(1, []) is None


def test_an_effect_that_nobody_could_miss_has_power_one() -> None:
    powers = [power(effect, 1.0, 500, 500) for effect in (0.7, 1.3, 2.4, 10.0, -1.3)]
    assert powers == pytest.approx([1.0] * 5, abs=1e-12)


def test_the_smallest_effect_of_many_users_is_found() -> None:
    assert power(smallest_effect(1.0, 500, 500), 1.0, 500, 500) == pytest.approx(0.8, abs=1e-9)
