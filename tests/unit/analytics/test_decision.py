"""The rule: what ships, what is rolled back, and the sentence that says so."""

import re

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.decision import GO_ON, ROLL_BACK, SHIP, STOP, Decision, Rule, decide
from botify.core.goals import Goals

GOALS = Goals(("mean_time_per_session",), {"sessions": 0.05, "mean_request_latency": 0.1})
N = 4_000


def users(seed: int = 1, n: int = N, treated: float = 0.5, **effects: float) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    of_treatment = rng.random(n) < treated
    means = {"mean_time_per_session": 3.0, "sessions": 7.0, "mean_request_latency": 15.0, "time": 20.0}
    values = {
        metric: rng.normal(mean, mean / 5, n) * (1 + effects.get(metric, 0.0) * of_treatment)
        for metric, mean in means.items()
    }
    return pd.DataFrame({"treatment": np.where(of_treatment, "T1", "C"), **values})


def decided(frame: pd.DataFrame, horizon: int = N, goals: Goals = GOALS) -> Decision:
    return decide(frame, "T1", Rule(goals, horizon), recommenders={"T1": "rerank", "C": "random"})


def test_an_improvement_without_a_loss_ships() -> None:
    found = decided(users(mean_time_per_session=0.05))
    assert found.outcome == SHIP
    assert found.sentence.startswith("Ship T1 rerank: time per session is ")
    assert found.sentence.endswith("% higher than with C random.")


@pytest.mark.parametrize(
    ("effects", "told"),
    [
        ({"mean_time_per_session": -0.1}, "time per session is"),
        ({"mean_time_per_session": 0.1, "sessions": -0.15}, "sessions are"),
        ({"mean_time_per_session": 0.1, "mean_request_latency": 1.0}, "request latency, ms is"),
    ],
)
def test_a_loss_beyond_what_is_accepted_is_rolled_back_and_named(effects: dict[str, float], told: str) -> None:
    found = decided(users(**effects))
    assert found.outcome == ROLL_BACK
    assert found.sentence.startswith(f"Roll back T1 rerank: {told}")
    assert ("although time per session is" in found.sentence) == (effects["mean_time_per_session"] > 0)


def test_a_loss_of_any_metric_does_not_ship_and_is_named() -> None:
    """The loss of a metric without a goal, or within a margin, blocks and is said, but does not end the experiment."""
    watched = decided(users(mean_time_per_session=0.05, time=-0.06), horizon=2 * N)
    assert watched.outcome == GO_ON
    assert re.search("time in all is .* lower", watched.sentence)
    within = decided(users(mean_time_per_session=0.05, mean_request_latency=0.05))
    assert within.outcome == STOP
    assert "request latency, ms is" in within.sentence


def test_a_guardrail_that_is_not_shown_to_hold_waits_then_stops() -> None:
    narrow = Goals(GOALS.success, {"sessions": 0.005})
    frame = users(mean_time_per_session=0.05)
    waiting = decided(frame, 2 * N, narrow)
    assert waiting.outcome == GO_ON
    assert "a loss beyond the margin is not ruled out for sessions" in waiting.sentence
    assert decided(frame, N, narrow).outcome == STOP


def test_nothing_is_decided_about_few_listeners_or_a_broken_split() -> None:
    assert decided(users(n=80, mean_time_per_session=0.5)).outcome == GO_ON
    broken = decided(users(treated=0.6, mean_time_per_session=0.2))
    assert broken.outcome == STOP
    assert "did not split as declared" in broken.sentence


def test_listeners_after_the_horizon_do_not_count() -> None:
    early, late = users(mean_time_per_session=0.05), users(seed=2, mean_time_per_session=-0.5)
    assert decided(pd.concat([early, late])) == decided(early)


def test_a_goal_without_values_is_refused() -> None:
    with pytest.raises(AnalyticsError, match="the users have no 'sessions'"):
        decided(users().drop(columns="sessions"))


def test_a_strict_rule_ends_what_is_worse_within_its_margin() -> None:
    slower = users(mean_request_latency=0.06)  # of a margin of a tenth
    assert decided(slower).outcome != ROLL_BACK
    strict = decide(slower, "T1", Rule(GOALS, N, strict=True))
    assert strict.outcome == ROLL_BACK
    assert strict.sentence.startswith("Roll back T1: request latency")


def test_launches_without_an_effect_seldom_ship_and_harmful_ones_never_do() -> None:
    outcomes = [decided(users(seed)).outcome for seed in range(200)]
    assert outcomes.count(SHIP) <= 0.08 * len(outcomes)
    slower = [decided(users(seed, mean_time_per_session=0.05, mean_request_latency=0.2)).outcome for seed in range(50)]
    assert SHIP not in slower
    assert [decided(users(seed, mean_time_per_session=-0.05)).outcome for seed in range(50)] == [ROLL_BACK] * 50
