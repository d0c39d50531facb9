"""Welch's interval from running totals."""

from __future__ import annotations

import math
from typing import NamedTuple

from scipy.special import stdtrit

CONFIDENCE = 0.95


class Moments(NamedTuple):
    """What is needed of a sample to compare its mean: size, mean and variance (unbiased)."""

    n: int
    mean: float
    variance: float


class Interval(NamedTuple):
    """A difference of means and its interval; NaN bounds where a sample has fewer than two values."""

    estimate: float
    lower: float
    upper: float


def welch_interval(control: Moments, treated: Moments, confidence: float = CONFIDENCE) -> Interval:
    """Compare two means without assuming equal variances.

    B. L. Welch, "The generalization of 'Student's' problem when several different population variances are
    involved", Biometrika 34 (1947). With v_i = s_i²/n_i the degrees of freedom are
    (v_0 + v_1)² / (v_0²/(n_0 − 1) + v_1²/(n_1 − 1)).

    Returns
    -------
    Interval
        Treated minus control.

    Examples
    --------
    >>> interval = welch_interval(Moments(100, 1.0, 4.0), Moments(100, 2.0, 4.0))
    >>> round(interval.lower, 3), round(interval.upper, 3)
    (0.442, 1.558)
    """
    estimate = treated.mean - control.mean
    if min(control.n, treated.n) < 2:
        return Interval(estimate, math.nan, math.nan)
    v0, v1 = control.variance / control.n, treated.variance / treated.n
    if v0 + v1 == 0:
        return Interval(estimate, estimate, estimate)
    df = (v0 + v1) ** 2 / (v0**2 / (control.n - 1) + v1**2 / (treated.n - 1))
    half = float(stdtrit(df, (1 + confidence) / 2)) * math.sqrt(v0 + v1)
    return Interval(estimate, estimate - half, estimate + half)
