"""Planning: how many listeners, and how many days, an experiment needs, from what listeners did before."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from botify.analytics import AnalyticsError
from botify.analytics.assignment import METRICS, per_user
from botify.analytics.decision import BURN_IN, horizon_power
from botify.analytics.sessions import DAY_MS
from botify.core.goals import Goals
from botify.core.welch import Sample

MOST_USERS = 10**9  # upper bound of the search


def power(effect: float, deviation: float, control_users: float, treatment_users: float, alpha: float = 0.05) -> float:
    """Return the power of a two-sided t-test at level alpha, for samples of two users or more with this deviation."""
    df = control_users + treatment_users - 2
    shift = abs(effect) / deviation / math.sqrt(1 / control_users + 1 / treatment_users)
    critical = float(stats.t.isf(alpha / 2, df))
    # scipy may return NaN where the tail on the wrong side is below 1e-17
    wrong_side = float(stats.nct.cdf(-critical, df, shift)) if shift < 8 else 0.0
    return float(stats.nct.sf(critical, df, shift)) + wrong_side


def users_needed(effect: float, deviation: float, wanted_power: float = 0.8, alpha: float = 0.05) -> int:
    """Return the number of users that control and treatment need each.

    Raises `AnalyticsError` if a deviation is not above 0, the power is not between alpha and 1, or `MOST_USERS` are not
    enough.
    """
    if deviation <= 0 or not alpha < wanted_power < 1:
        raise AnalyticsError(f"deviation {deviation} must be above 0, power {wanted_power} between {alpha} and 1")

    def enough(users: int) -> bool:
        return power(effect, deviation, users, users, alpha) >= wanted_power

    upper = fewest = 2
    while not enough(upper):
        upper *= 2
        if upper > MOST_USERS:
            raise AnalyticsError(
                f"an effect of {effect} with a deviation of {deviation} needs more than {MOST_USERS:,} users; "
                "plan for a larger effect or a metric that varies less (CUPED)"
            )
    lower = max(fewest, upper // 2)
    while lower < upper:
        middle = (lower + upper) // 2
        if enough(middle):
            upper = middle
        else:
            lower = middle + 1
    return lower


def smallest_effect(
    deviation: float, control_users: int, treatment_users: int, wanted_power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest effect that these users detect with the wanted power."""
    error = deviation * math.sqrt(1 / control_users + 1 / treatment_users)

    def missing(effect: float) -> float:
        return power(effect, deviation, control_users, treatment_users, alpha) - wanted_power

    return float(optimize.brentq(missing, 0.0, 100 * error, xtol=1e-12 * error))


def days_needed(users: int, new_users_by_day: ArrayLike) -> int | None:
    """Return the number of days until enough users have come for the first time, or None if fewer come."""
    came = np.cumsum(np.asarray(new_users_by_day, dtype=np.float64))
    days = int(np.searchsorted(came, users)) + 1
    return days if days <= len(came) else None


def decision_users(
    goals: Goals,
    spread: Mapping[str, float],
    effect: float,
    wanted_power: float = 0.8,
    alpha: float = 0.05,
    treatments: int = 1,
) -> int:
    """Return the users of both arms that the rule of `botify.analytics.decision` needs to ship an effect.

    All of 1 + G tests must succeed, the success metric's and G guardrails', so each is planned with the power 1 − β /
    (G + 1): the probability that any fails is then at most β. Of several success metrics the one that varies most
    decides. Guardrails are planned without a loss.

    `spread` is the standard deviation of a user's value over the mean, after CUPED; `effect` the smallest relevant one,
    as a share of the mean. Raises `AnalyticsError` if the effect or the power is out of range.
    """
    if not effect > 0 or not alpha < wanted_power < 1:
        raise AnalyticsError(f"the effect {effect} must be above 0, the power {wanted_power} between {alpha} and 1")
    each_power = 1 - (1 - wanted_power) / (len(goals.guardrails) + 1)

    def needed(metric: str, relevant: float, level: float) -> int:
        shift = optimize.brentq(lambda theta: horizon_power(theta, level) - each_power, 0.0, 20.0)
        return math.ceil(4 * (float(shift) * spread[metric] / relevant) ** 2)

    success_alpha = alpha / treatments / len(goals.success)
    sizes = [needed(metric, effect, success_alpha) for metric in goals.success]
    sizes += [needed(metric, margin, alpha / treatments) for metric, margin in goals.guardrails.items()]
    return max(*sizes, 4 * BURN_IN)


class Wanted(NamedTuple):
    """The effect that an experiment should detect."""

    metric: str  # one of `botify.analytics.assignment.METRICS`
    effect: float  # the smallest relevant one, in % of the control's mean
    wanted_power: float = 0.8  # probability of detecting it
    alpha: float = 0.05
    treatments: int = 1  # number of treatments besides the control
    # share of the variance that CUPED removes, 0 to 1 (as `botify experiment results --cuped` prints)
    variance_reduction: float = 0.0


class Plan(NamedTuple):
    """The size of an experiment."""

    mean: float  # of the metric over the users in the data, the deviation after CUPED
    deviation: float
    users_seen: int
    users_each: int  # users that the control and each treatment need
    # days until enough users came for the first time, at the pace of the data; None if the data has too few
    days: int | None
    smallest_effect: float  # that the users in the data detect with the wanted power, in %


def plan_experiment(sessions: pd.DataFrame, wanted: Wanted) -> Plan:
    """Plan from the pace and the spread of past listens, over a period as long as the experiment: sums grow with it.

    Raises `AnalyticsError` if the metric is unknown, no user has it, or there is no plan (`users_needed`).
    """
    if wanted.metric not in METRICS:
        raise AnalyticsError(f"unknown metric {wanted.metric!r}; choose one of {', '.join(METRICS)}")
    if not 0 <= wanted.variance_reduction < 1 or wanted.effect == 0 or wanted.treatments < 1:
        raise AnalyticsError(
            f"the effect {wanted.effect} must not be 0, treatments {wanted.treatments} be 1 or more, and the variance "
            f"reduction {wanted.variance_reduction} be from 0 to below 1"
        )
    sample = Sample.of(per_user(sessions)[wanted.metric])
    arms = wanted.treatments + 1
    if sample.n < 2 * arms or not sample.mean:
        raise AnalyticsError(f"{sample.n} listeners have {wanted.metric}, too few for a plan; simulate more sessions")
    deviation = math.sqrt(sample.variance * (1 - wanted.variance_reduction))
    effect = abs(wanted.effect / 100 * sample.mean)
    each = users_needed(effect, deviation, wanted.wanted_power, wanted.alpha)
    shown = smallest_effect(deviation, sample.n // arms, sample.n // arms, wanted.wanted_power, wanted.alpha)
    first_ms = sessions.groupby("user")["started_ms"].min()
    days = days_needed(each * arms, np.bincount((first_ms - first_ms.min()) // DAY_MS))
    return Plan(sample.mean, deviation, sample.n, each, days, shown / abs(sample.mean) * 100)
