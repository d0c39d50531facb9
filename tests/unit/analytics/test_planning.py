from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from statsmodels.stats.power import TTestIndPower

from analytics.errors import AnalyticsError
from analytics.planning import Wanted, plan_experiment
from analytics.render import render_plan
from analytics.sessions import DAY_MS


@pytest.fixture(scope="module")
def sessions() -> pd.DataFrame:
    """Of 1,000 listeners, fifty of whom come for the first time each day; half come a second time."""
    rng = np.random.default_rng(1)
    users = np.concatenate([np.arange(1_000), np.arange(0, 1_000, 2)])
    return pd.DataFrame(
        {
            "user": users,
            "started_ms": users // 50 * DAY_MS + np.arange(1_500),
            "tracks": 3,
            "time": rng.gamma(3.0, size=1_500),
            "requests": 2,
            "latency_ms": 9.0,
        }
    )


def test_agrees_with_statsmodels(sessions: pd.DataFrame) -> None:
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
    ],
)
def test_impossible_wishes_are_refused(sessions: pd.DataFrame, wanted: Wanted, message: str) -> None:
    with pytest.raises(AnalyticsError, match=message):
        plan_experiment(sessions, wanted)


def test_nobody_to_plan_with_is_said(sessions: pd.DataFrame) -> None:
    with pytest.raises(AnalyticsError, match="3 listeners have time, too few"):
        plan_experiment(sessions[:3], Wanted("time", 5.0))


def test_the_plan_is_drawn(sessions: pd.DataFrame) -> None:
    wanted = Wanted("time", 10.0)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(render_plan(wanted, plan_experiment(sessions, wanted)))
    text = console.export_text()
    assert "To see +10 % time with a probability of 0.8" in text
    assert "the 1,000 listeners seen would show" in text
