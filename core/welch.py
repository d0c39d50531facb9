"""Means with their intervals: Student's for one sample, Welch's for two, clustered for values that come in groups."""

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
    """Return the mean of independent values, one a user, with Student's interval, NaN with fewer than two values."""
    return Sample.of(values).interval(alpha)


class Sample(NamedTuple):
    """Size, mean and (unbiased) variance of a sample."""

    n: int
    mean: float
    variance: float

    @classmethod
    def of(cls, values: ArrayLike) -> "Sample":
        """Summarise values, without NaN."""
        array = np.asarray(values, dtype=np.float64)
        array = array[~np.isnan(array)]
        mean = float(array.mean()) if len(array) else math.nan
        return cls(len(array), mean, float(array.var(ddof=1)) if len(array) > 1 else math.nan)

    def interval(self, alpha: float = 0.05) -> Mean:
        """Return the mean with Student's interval, as `mean_interval`."""
        if self.n < 2:
            return Mean(self.mean, math.nan, math.nan)
        half = -float(stdtrit(self.n - 1, alpha / 2)) * math.sqrt(self.variance / self.n)
        return Mean(self.mean, self.mean - half, self.mean + half)


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

    def figures(self) -> dict[str, float]:
        """Return the difference and its interval by name."""
        return {"effect": self.estimate, "lower": self.lower, "upper": self.upper}

    def in_percent_of(self, mean: float) -> "Difference":
        """Return the difference in % of a mean that is taken as known; NaN where the mean is zero."""
        percent = 100 / mean if mean else math.nan
        lower, upper = sorted((self.lower * percent, self.upper * percent))  # a negative mean reverses the interval
        return Difference(self.estimate * percent, lower, upper, self.p_value)


def welch(control: Sample, treatment: Sample, alpha: float = 0.05) -> Difference:
    """Return treatment minus control without assuming equal variances (Welch, Biometrika 34, 1947).

    The degrees of freedom are Satterthwaite's: with v_i = s_i²/n_i, (v_0 + v_1)² / (v_0²/(n_0 − 1) + v_1²/(n_1 − 1)).
    All but the estimate are NaN if a sample has fewer than two values; the interval is a point if neither sample
    varies.
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


def ratio_interval(units: ArrayLike, before: ArrayLike, after: ArrayLike, alpha: float = 0.05) -> Mean:
    """Return Σ after / Σ before, shape (n,), with its interval, where the values of one unit are not independent.

    With B_u and A_u the sums of a unit's values, R = Σ A_u / Σ B_u is a ratio estimator, and its variance that of the
    residuals A_u − R B_u (Cochran, "Sampling techniques", 1977, chapter 6). A unit is whose value it is: a listener's
    sessions are alike. Ones in `before` give the mean of `after`. The interval is NaN with fewer than two units.
    """
    b, a = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
    ratio, total = float(a.sum() / b.sum()), float(b.sum())
    # residuals of one unit taken together; all of them sum to zero
    sums = np.bincount(np.unique(np.asarray(units), return_inverse=True)[1], weights=a - ratio * b)
    n = len(sums)
    if n < 2:
        return Mean(ratio, math.nan, math.nan)
    half = -float(stdtrit(n - 1, alpha / 2)) * math.sqrt(n / (n - 1) * float((sums**2).sum())) / total
    return Mean(ratio, ratio - half, ratio + half)
