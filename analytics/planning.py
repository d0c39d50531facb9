"""How long must an experiment be? Answered from what listeners did before."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.assignment import METRICS, per_user
from analytics.errors import AnalyticsError
from analytics.sessions import DAY_MS
from analytics.statistics.power import days_needed, smallest_effect, users_needed
from core.welch import Sample


class Wanted(NamedTuple):
    """What an experiment shall be able to show.

    Attributes
    ----------
    metric : str
        One of `analytics.assignment.METRICS`.
    effect : float
        The smallest that would matter, in % of the control's mean.
    wanted_power : float
        Probability that an effect of this size is found.
    alpha : float
    treatments : int
        How many besides the control.
    variance_reduction : float
        Share of the variance that CUPED takes out, 0 to 1 (`botify experiment results --cuped` tells it).
    """

    metric: str
    effect: float
    wanted_power: float = 0.8
    alpha: float = 0.05
    treatments: int = 1
    variance_reduction: float = 0.0


class Plan(NamedTuple):
    """What it takes.

    Attributes
    ----------
    mean, deviation : float
        Of the metric among the users seen, the deviation after CUPED.
    users_seen : int
    users_each : int
        Users that each treatment needs, the control included.
    days : int or None
        Until so many users came for the first time, at the pace of the data; None where they do not come in it.
    smallest_effect : float
        What the users seen would show with the wanted power, in %.
    """

    mean: float
    deviation: float
    users_seen: int
    users_each: int
    days: int | None
    smallest_effect: float


def plan_experiment(sessions: pd.DataFrame, wanted: Wanted) -> Plan:
    """Plan with the users of the past: as many, and as different from each other, as they were.

    Parameters
    ----------
    sessions : DataFrame
        As `analytics.sessions.sessions_of`; a time as long as the experiment's, because metrics that add up grow
        with it.
    wanted : Wanted

    Raises
    ------
    AnalyticsError
        The metric is unknown, nobody has it, or the wish cannot be fulfilled (`users_needed`).

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> sessions = pd.DataFrame({"user": range(2_000), "started_ms": np.arange(2_000) * 600_000, "tracks": 1,
    ...     "time": rng.gamma(4.0, size=2_000), "requests": 1, "latency_ms": 5.0})
    >>> plan = plan_experiment(sessions, Wanted("time", effect=10.0))
    >>> plan.users_each, plan.days
    (401, 6)
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
    each, _ = users_needed(effect, deviation, wanted.wanted_power, wanted.alpha)
    shown = smallest_effect(deviation, sample.n // arms, sample.n // arms, wanted.wanted_power, wanted.alpha)
    days = days_needed(each * arms, came) if (came := _new_users_by_day(sessions)).sum() >= each * arms else None
    return Plan(sample.mean, deviation, sample.n, each, days, shown / abs(sample.mean) * 100)


def _new_users_by_day(sessions: pd.DataFrame) -> NDArray[np.int64]:
    first_ms = sessions.groupby("user")["started_ms"].min()
    return np.bincount((first_ms - first_ms.min()) // DAY_MS).astype(np.int64)
