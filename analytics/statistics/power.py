"""Planning: how many listeners, and how many days, until an effect would be seen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, stats

from analytics.errors import AnalyticsError

MOST_USERS = 10**9
"""More than there are to ask."""


def power(effect: float, deviation: float, control_users: float, treatment_users: float, alpha: float = 0.05) -> float:
    """Return the probability that a two-sided t-test at level alpha finds the effect.

    Parameters
    ----------
    effect : float
        True difference of the means.
    deviation : float
        Standard deviation of a user's value, in the unit of the effect; the same in both samples.
    control_users, treatment_users : float
        At least two each.

    Examples
    --------
    >>> round(power(effect=0.5, deviation=1.0, control_users=64, treatment_users=64), 3)
    0.801
    """
    df = control_users + treatment_users - 2
    shift = abs(effect) / deviation / math.sqrt(1 / control_users + 1 / treatment_users)
    critical = float(stats.t.isf(alpha / 2, df))
    # where the tail on the wrong side is below 1e-17, scipy may say NaN
    wrong_side = float(stats.nct.cdf(-critical, df, shift)) if shift < 8 else 0.0
    return float(stats.nct.sf(critical, df, shift)) + wrong_side


def users_needed(
    effect: float, deviation: float, wanted_power: float = 0.8, alpha: float = 0.05, ratio: float = 1.0
) -> tuple[int, int]:
    """Return how many users control and treatment need.

    Parameters
    ----------
    effect, deviation : float
        As in `power`; the effect that would matter, not the one hoped for.
    wanted_power : float
        Between alpha and 1.
    ratio : float
        Users of the treatment for each user of the control.

    Raises
    ------
    AnalyticsError
        A deviation or ratio that is not above 0, a power out of range, or an effect so small that a milliard users
        would not show it.

    Examples
    --------
    >>> users_needed(effect=0.5, deviation=1.0)
    (64, 64)
    """
    if deviation <= 0 or ratio <= 0 or not alpha < wanted_power < 1:
        raise AnalyticsError(
            f"deviation {deviation} and ratio {ratio} must be above 0, power {wanted_power} between {alpha} and 1"
        )

    def enough(users: int) -> bool:
        return power(effect, deviation, users, max(users * ratio, 2), alpha) >= wanted_power

    fewest = max(2, math.ceil(2 / ratio))
    upper = fewest
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
    return lower, math.ceil(lower * ratio)


def smallest_effect(
    deviation: float, control_users: int, treatment_users: int, wanted_power: float = 0.8, alpha: float = 0.05
) -> float:
    """Return the smallest effect that so many users show with the wanted power.

    Examples
    --------
    >>> round(smallest_effect(deviation=1.0, control_users=64, treatment_users=64), 2)
    0.5
    """
    error = deviation * math.sqrt(1 / control_users + 1 / treatment_users)

    def missing(effect: float) -> float:
        return power(effect, deviation, control_users, treatment_users, alpha) - wanted_power

    return float(optimize.brentq(missing, 0.0, 100 * error, xtol=1e-12 * error))


def days_needed(users: int, new_users_by_day: ArrayLike) -> int:
    """Return how many days it takes until so many users took part.

    Parameters
    ----------
    users : int
        Of all treatments together.
    new_users_by_day : array_like of float
        Users who come for the first time on each day. They become fewer as everybody has been there once, so the
        same number for each day would promise too much.

    Raises
    ------
    AnalyticsError
        So many users do not come in all these days.

    Examples
    --------
    >>> days_needed(120, [100, 15, 10, 5])
    3
    """
    came = np.cumsum(np.asarray(new_users_by_day, dtype=np.float64))
    days = int(np.searchsorted(came, users)) + 1
    if days > len(came):
        last = came[-1] if len(came) else 0
        raise AnalyticsError(f"{users:,} users are needed, {last:,.0f} come in {len(came)} days; plan for more days")
    return days


ALARM = 0.001
"""So improbable a split is called a mismatch: the check is made often, and a false alarm stops an experiment."""


class SampleRatio(NamedTuple):
    """How the users split, and how probable so uneven a split is by chance."""

    expected: Mapping[str, float]
    observed: Mapping[str, int]
    p_value: float

    @property
    def mismatch(self) -> bool:
        """Whether chance can be ruled out."""
        return self.p_value < ALARM


def sample_ratio(users: Mapping[str, int], split: Mapping[str, float] | None = None) -> SampleRatio:
    """Compare the users of each treatment with the declared split (chi-square; Fabijan et al., KDD 2019).

    Parameters
    ----------
    users : mapping of treatment to number of users
    split : mapping of treatment to weight, optional
        As declared, in any unit; equal by default.

    Raises
    ------
    AnalyticsError
        Fewer than two treatments, a weight that is not above zero, or treatments that the split does not name.

    Examples
    --------
    >>> sample_ratio({"C": 5_000, "T1": 5_050}).mismatch
    False
    >>> sample_ratio({"C": 5_000, "T1": 5_500}).mismatch
    True
    """
    weights = dict.fromkeys(users, 1.0) if split is None else dict(split)
    if len(weights) < 2 or min(weights.values()) <= 0 or not users.keys() <= weights.keys():
        raise AnalyticsError(
            f"split {weights} must give each of the treatments {', '.join(users) or '(none)'}, and at least two, "
            "a weight above 0"
        )
    observed = {treatment: users.get(treatment, 0) for treatment in weights}
    share = sum(observed.values()) / sum(weights.values())
    expected = {treatment: weight * share for treatment, weight in weights.items()}
    if share == 0:
        return SampleRatio(expected, observed, 1.0)
    p_value = float(stats.chisquare(list(observed.values()), list(expected.values())).pvalue)
    return SampleRatio(expected, observed, p_value)
