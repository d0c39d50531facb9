"""A mean with its interval."""

from __future__ import annotations

import math
from typing import NamedTuple

from numpy.typing import ArrayLike
from scipy import stats

from analytics.statistics.welch import Sample


class Mean(NamedTuple):
    """A mean and its interval."""

    estimate: float
    lower: float
    upper: float


def mean_interval(values: ArrayLike, alpha: float = 0.05) -> Mean:
    """Return the mean of independent values, one a user, with Student's interval.

    Parameters
    ----------
    values : array_like of float
        NaN is left out.
    alpha : float
        One minus the confidence.

    Returns
    -------
    Mean
        The interval is NaN with fewer than two values.

    Examples
    --------
    >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    sample = Sample.of(values)
    if sample.n < 2:
        return Mean(sample.mean, math.nan, math.nan)
    half = float(stats.t.isf(alpha / 2, sample.n - 1)) * math.sqrt(sample.variance / sample.n)
    return Mean(sample.mean, sample.mean - half, sample.mean + half)
