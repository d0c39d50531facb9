"""What a recommender is worth against another on the same sessions: the ratio of means, with its interval."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats


class Effect(NamedTuple):
    """By how much a mean is above another, in percent of that, with an interval."""

    percent: float
    lower: float
    upper: float

    @property
    def factor(self) -> tuple[float, float, float]:
        """The same as multiples of the other mean."""
        return 1 + self.percent / 100, 1 + self.lower / 100, 1 + self.upper / 100


def paired_effect(
    users: NDArray[np.int64], control: NDArray[np.float64], treatment: NDArray[np.float64], alpha: float = 0.05
) -> Effect:
    """Compare what the same sessions came to.

    Sessions of one listener are alike, so listeners are the units: with C_u and T_u the sums of a listener's sessions,
    R = Σ T_u / Σ C_u is a ratio estimator, and its variance that of the residuals T_u − R C_u (Cochran, "Sampling
    techniques", 1977, chapter 6).

    Parameters
    ----------
    users : ndarray of int64, shape (n,)
        Whose session.
    control, treatment : ndarray of float64, shape (n,)
        The same sessions, under one and the other.
    alpha : float
        One minus the confidence.

    Examples
    --------
    >>> effect = paired_effect(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0]), np.array([2.2, 3.8, 6.0]))
    >>> round(effect.percent), effect.lower < 100 < effect.upper
    (100, True)
    """
    _, unit = np.unique(users, return_inverse=True)
    c, t = np.bincount(unit, control), np.bincount(unit, treatment)
    n, ratio = len(c), float(t.sum() / c.sum())
    residuals = t - ratio * c
    error = float(np.sqrt(n / max(n - 1, 1) * (residuals**2).sum()) / c.sum())
    half = float(stats.t.ppf(1 - alpha / 2, max(n - 1, 1))) * error
    return Effect(100 * (ratio - 1), 100 * (ratio - half - 1), 100 * (ratio + half - 1))


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    lower: float
    upper: float


def mean_of_sessions(users: NDArray[np.int64], values: NDArray[np.float64], alpha: float = 0.05) -> Interval:
    """Return the mean of sessions; as in `paired_effect`, listeners are the units.

    Examples
    --------
    >>> mean_of_sessions(np.array([1, 1, 2]), np.array([2.0, 2.0, 2.0]))
    Interval(mean=2.0, lower=2.0, upper=2.0)
    """
    effect = paired_effect(users, np.ones(len(values)), values, alpha)
    return Interval(*effect.factor)
