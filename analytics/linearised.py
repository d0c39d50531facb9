"""Ratios and quantiles as means: values of users whose mean is the statistic and whose variance is its own.

A smooth statistic is, but for small terms, a mean of influence values. With these as a column, every comparison of
means in this package (Welch, Holm, confidence sequences) holds for ratios and quantiles too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

Floats = NDArray[np.float64]


def ratio_values(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Return values whose mean is sum(x) / sum(y), with the variance of the delta method.

    R + (x − R y) / mean(y) (Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018). A
    ratio of sums weighs each session alike, where a mean of users' ratios weighs each user alike.

    `numerator`, `denominator`: shape (n,); of each user of one arm.
    """
    x, y = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    ratio = x.sum() / y.sum()
    values: Floats = ratio + (x - ratio * y) / y.mean()
    return values


def quantile_values(values: ArrayLike, level: float) -> Floats:
    """Return values whose mean is a quantile, with the variance of its central limit theorem, p (1 − p) / (n f(q)²).

    The influence values q + (p − 1[x ≤ q]) / f(q), centred. The density f at the quantile is the inverse of the
    distance of two order statistics (Siddiqui, J. Res. NBS 64B, 1960) with Hall and Sheather's bandwidth (JRSS B 50,
    1988).

    `values`: shape (n,); of each user of one arm; NaN stays NaN.
    `level`: 0.9 for the 90th percentile.
    """
    x = np.asarray(values, dtype=np.float64)
    known = x[~np.isnan(x)]
    if len(known) < 2:
        return x
    z = float(stats.norm.ppf(level))
    ratio = float(stats.norm.pdf(z)) ** 2 / (2 * z**2 + 1)
    width = len(known) ** (-1 / 3) * float(stats.norm.isf(0.025)) ** (2 / 3) * (1.5 * ratio) ** (1 / 3)
    lower, upper = max(level - width, 0.0), min(level + width, 1.0)
    q, below, above = np.quantile(known, [level, lower, upper])
    influence = (level - (x <= q)) * (above - below) / (upper - lower)
    found: Floats = q + influence - np.nanmean(influence)
    return found


def quantile_name(metric: str, level: float) -> str:
    """Return the name of a quantile of a metric."""
    return f"p{100 * level:g}_{metric}"


def add_linearised(
    users: pd.DataFrame, levels: Sequence[float], metrics: Sequence[str], *, ratio: bool = True
) -> pd.DataFrame:
    """Add the ratio `time_per_session` and quantiles over users, arm by arm.

    `metrics`: whose quantiles.
    `ratio`: whether to add the ratio.
    """
    parts = []
    for _, arm in users.groupby("treatment", observed=True):
        columns = {"time_per_session": ratio_values(arm["time"], arm["sessions"])} if ratio else {}
        for level in levels:
            columns |= {quantile_name(metric, level): quantile_values(arm[metric], level) for metric in metrics}
        parts.append(arm.assign(**columns))
    return pd.concat(parts).reindex(users.index) if parts else users
