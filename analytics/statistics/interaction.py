"""Two experiments on the same users: does the one change what the other does."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from analytics.errors import AnalyticsError


class Interaction(NamedTuple):
    """Wald's test that effects add up.

    Attributes
    ----------
    statistic : float
        Chi-square distributed where there is no interaction.
    df : int
        (treatments of the one − 1) · (treatments of the other − 1).
    p_value : float
    """

    statistic: float
    df: int
    p_value: float


def interaction(values: ArrayLike, first: ArrayLike, second: ArrayLike) -> Interaction:
    """Test whether the effect of one experiment depends on the treatment of another.

    Each combination of treatments has a mean with a variance of its own, as in Welch's test (in a regression with
    all products of dummies: the Wald test with the HC2 covariance of MacKinnon and White, J. Econometrics 29, 1985).

    Parameters
    ----------
    values : array_like of float, shape (n,)
        One for each user; NaN is left out.
    first, second : array_like, shape (n,)
        The user's treatment in each experiment.

    Raises
    ------
    AnalyticsError
        A combination of treatments has fewer than two users, or all its users have the same value.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.integers(0, 2, 400), rng.integers(0, 2, 400)
    >>> interaction(rng.normal(a + b), a, b).p_value > 0.01, interaction(rng.normal(a * b), a, b).p_value < 0.01
    (True, True)
    """
    frame = pd.DataFrame({"value": values, "first": first, "second": second}).dropna()
    cells = frame.groupby(["first", "second"], observed=True)["value"].agg(["count", "mean", "var"])
    means, variances = (cells[name].unstack("second") for name in ("mean", "var"))
    counts = cells["count"].unstack("second", fill_value=0)
    if min(counts.shape) < 2 or counts.to_numpy().min() < 2 or not (variances.to_numpy() > 0).all():
        raise AnalyticsError(
            "each combination of two experiments' treatments needs two users with different values; there are\n"
            f"{counts.to_string()}"
        )
    contrasts = np.kron(*(_against_first(size) for size in means.shape))
    differences = contrasts @ means.to_numpy().ravel()
    covariance = contrasts @ np.diag((variances / counts).to_numpy().ravel()) @ contrasts.T
    statistic = float(differences @ np.linalg.solve(covariance, differences))
    df = len(differences)
    return Interaction(statistic, df, float(stats.chi2.sf(statistic, df)))


def _against_first(size: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return rows that subtract the first of `size` values from each of the others."""
    return np.hstack([-np.ones((size - 1, 1)), np.eye(size - 1)])
