"""Less noise from what is known of the users before the experiment (CUPED)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from analytics.errors import AnalyticsError


class Cuped(NamedTuple):
    """Values with what the covariate explains taken out.

    Attributes
    ----------
    values : ndarray of float64, shape (n,)
        Same mean as before for all users together; compare these.
    theta : float
        Slope on the covariate.
    variance_reduction : float
        Share of the variance within treatments that is gone, 0 to 1.
    """

    values: NDArray[np.float64]
    theta: float
    variance_reduction: float


def cuped(values: ArrayLike, covariate: ArrayLike, treatments: ArrayLike) -> Cuped:
    """Subtract theta · (covariate − its mean) (Deng, Xu, Kohavi and Walker, WSDM 2013).

    Theta is the slope within treatments, pooled, which is analysis of covariance: an effect of the treatment cannot
    leak into it. The covariate must be from before the treatment, or the effect is subtracted too.

    Parameters
    ----------
    values, covariate : array_like of float, shape (n,)
        One for each user. Where the covariate is NaN (a new user) its mean is taken, so the value stays as it is.
    treatments : array_like, shape (n,)

    Examples
    --------
    >>> adjusted = cuped([1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 0.0, 1.0], ["C", "C", "T1", "T1"])
    >>> adjusted.values.tolist(), adjusted.theta, adjusted.variance_reduction
    ([1.5, 1.5, 3.5, 3.5], 1.0, 1.0)
    """
    y = np.asarray(values, dtype=np.float64)
    x = np.asarray(covariate, dtype=np.float64)
    known = ~np.isnan(x)
    deviation = np.where(known, x - (x[known].mean() if known.any() else 0.0), 0.0)
    counted = ~np.isnan(y)
    y_within, x_within = (_within(array[counted], np.asarray(treatments)[counted]) for array in (y, deviation))
    x_squares, y_squares = float(x_within @ x_within), float(y_within @ y_within)
    if x_squares == 0 or y_squares == 0:
        return Cuped(y, 0.0, 0.0)
    product = float(x_within @ y_within)
    theta = product / x_squares
    return Cuped(y - theta * deviation, theta, product**2 / (x_squares * y_squares))


def _within(values: NDArray[np.float64], groups: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return each value's distance from the mean of its group."""
    _, codes = np.unique(groups, return_inverse=True)
    means = np.bincount(codes, weights=values) / np.bincount(codes)
    centred: NDArray[np.float64] = values - means[codes]
    return centred


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
