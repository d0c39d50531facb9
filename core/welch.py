"""Means with their intervals: Student's for one sample, Welch's for the difference of two."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtr, stdtrit  # scipy.stats computes the same, and takes a second to import


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
        NaN is ignored.
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
    half = -float(stdtrit(sample.n - 1, alpha / 2)) * math.sqrt(sample.variance / sample.n)
    return Mean(sample.mean, sample.mean - half, sample.mean + half)


class Sample(NamedTuple):
    """Size, mean and (unbiased) variance of a sample."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: ArrayLike) -> Sample:
        """Summarise values, without NaN.

        Examples
        --------
        >>> Sample.of([1.0, 2.0, float("nan"), 3.0])
        Sample(n=3, mean=2.0, variance=1.0)
        """
        array = np.asarray(values, dtype=np.float64)
        array = array[~np.isnan(array)]
        mean = float(array.mean()) if len(array) else math.nan
        return cls(len(array), mean, float(array.var(ddof=1)) if len(array) > 1 else math.nan)


class Difference(NamedTuple):
    """A difference of means with its interval and the p-value of no difference."""

    estimate: float
    lower: float
    upper: float
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether the interval excludes zero."""
        return self.lower > 0 or self.upper < 0


def welch(control: Sample, treatment: Sample, alpha: float = 0.05) -> Difference:
    """Compare two means without assuming equal variances (Welch, Biometrika 34, 1947).

    The degrees of freedom are Satterthwaite's: with v_i = s_i²/n_i, (v_0 + v_1)² / (v_0²/(n_0 − 1) + v_1²/(n_1 − 1)).

    Parameters
    ----------
    control, treatment : Sample
    alpha : float
        One minus the confidence.

    Returns
    -------
    Difference
        Treatment minus control. All but the estimate are NaN if a sample has fewer than two values; the interval is a
        point if neither sample varies.

    Examples
    --------
    >>> difference = welch(Sample(100, 1.0, 4.0), Sample(100, 2.0, 4.0))
    >>> round(difference.lower, 3), round(difference.upper, 3), difference.significant
    (0.442, 1.558, True)
    """
    estimate = treatment.mean - control.mean
    if min(control.n, treatment.n) < 2:
        return Difference(estimate, math.nan, math.nan, math.nan)
    v0, v1 = control.variance / control.n, treatment.variance / treatment.n
    if v0 + v1 == 0:
        return Difference(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0)
    df = (v0 + v1) ** 2 / (v0**2 / (control.n - 1) + v1**2 / (treatment.n - 1))
    error = math.sqrt(v0 + v1)
    half = float(stdtrit(df, 1 - alpha / 2)) * error
    p_value = 2 * float(stdtr(df, -abs(estimate) / error))
    return Difference(estimate, estimate - half, estimate + half, p_value)
