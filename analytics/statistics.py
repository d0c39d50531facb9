"""Statistics of experiments: pure functions of arrays, each with its source.

Ratios and quantiles become means: a smooth statistic is, but for small terms, a mean of influence values. With these
as a column, every comparison of means in this package (Welch, Holm, confidence sequences) holds for them too.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from botify.analytics import AnalyticsError
from botify.core.drift import rho_squared
from botify.core.welch import Difference, Sample


class Cuped(NamedTuple):
    """Values without the part that the covariate explains."""

    values: NDArray[np.float64]  # shape (n,); of the same overall mean as before
    theta: float  # slope on the covariate
    variance_reduction: float  # share of the variance within treatments that is removed, 0 to 1


def cuped(values: ArrayLike, covariate: ArrayLike, treatments: ArrayLike) -> Cuped:
    """Subtract theta · (covariate − its mean) (Deng, Xu, Kohavi and Walker, WSDM 2013).

    Theta is the pooled slope within treatments (analysis of covariance), so it does not contain the treatment's effect.
    The covariate must be from before the treatment, or the effect is subtracted too. Arrays have an entry for each
    user; where the covariate is NaN (a new user), the value is unchanged.
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
    return np.asarray(values - means[codes])


class Interaction(NamedTuple):
    """Wald's test that effects add up."""

    statistic: float  # chi-square distributed if there is no interaction
    df: int  # (treatments of the first − 1) · (treatments of the second − 1)
    p_value: float


def interaction(values: ArrayLike, first: ArrayLike, second: ArrayLike) -> Interaction:
    """Test whether the effect of one experiment depends on the treatment of another; NaN is left out.

    Each combination of treatments has its own mean and variance, as in Welch's test: the Wald test with the HC2
    covariance (MacKinnon and White, J. Econometrics 29, 1985) in a regression on all products of dummies. Raises
    `AnalyticsError` if a combination has fewer than two users, or its values do not vary.
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


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values, shape (m,), to control the family-wise error rate (Holm, Scand. J. Statist. 6, 1979).

    The i-th smallest of m is multiplied by m − i + 1 and is at least as large as the one before it. The metrics may
    depend on each other in any way. NaN (not testable) stays NaN and is not counted.
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN is sorted to the end
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


ALARM = 0.001
"""P-value below which a split is a mismatch; low, because the check is frequent and an alarm stops an experiment."""


class SampleRatio(NamedTuple):
    """The split of the users, and the p-value of a split at least so uneven."""

    expected: Mapping[str, float]
    observed: Mapping[str, int]
    p_value: float

    @property
    def mismatch(self) -> bool:
        """Whether chance is ruled out."""
        return self.p_value < ALARM


def sample_ratio(users: Mapping[str, int], split: Mapping[str, float] | None = None) -> SampleRatio:
    """Compare the users of each treatment with the declared split (chi-square; Fabijan et al., KDD 2019).

    The split is in any unit, and equal by default. Raises `AnalyticsError` if there are fewer than two treatments, a
    weight is not above zero, or the split lacks a treatment.
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


class RunningSample(NamedTuple):
    """Size, mean and variance after each user, in arrays of one shape; NaN for too few users."""

    n: NDArray[np.int64]
    mean: NDArray[np.float64]
    variance: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ConfidenceSequence:
    """Always-valid intervals for a difference of means.

    The probability that any interval, at any look, misses the truth is at most alpha, so an experiment may be checked
    after every user and stopped once zero is excluded. The price is an interval wider than Welch's: by 55 % at
    `tuned_for` users and alpha 0.05, and by more at other sizes.

    This is Robbins' normal mixture in the asymptotic form of Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    "Time-uniform central limit theory and asymptotic confidence sequences" (Annals of Statistics 52, 2024):
    the half-width is s · sqrt(2 (nρ² + 1) / (nρ²) · log(sqrt(nρ² + 1) / α)), with s the standard error of the
    difference and n the users of both samples.

    Each user must count once, with a final value, such as that of the first session or the first day.
    """

    alpha: float = 0.05  # one minus the confidence
    tuned_for: int = 10_000  # number of users, of both samples, at which the interval is narrowest
    burn_in: int = 50  # users that each sample needs before there is an interval: the theory is asymptotic

    @property
    def rho_squared(self) -> float:
        """The mixture's parameter, best at `tuned_for` (the same paper's closed form)."""
        return rho_squared(self.alpha, self.tuned_for)

    def half_width(self, control: Sample | RunningSample, treatment: Sample | RunningSample) -> NDArray[np.float64]:
        """Return half the interval's width, at one look or at all of them; infinite during the burn-in."""
        n0, n1 = (np.asarray(sample.n, dtype=np.float64) for sample in (control, treatment))
        m = (n0 + n1) * self.rho_squared
        with np.errstate(invalid="ignore", divide="ignore"):
            squared_error = control.variance / n0 + treatment.variance / n1
            half = np.sqrt(squared_error * 2 * (m + 1) / m * np.log(np.sqrt(m + 1) / self.alpha))
        return np.where(np.minimum(n0, n1) < max(self.burn_in, 2), np.inf, half)

    def difference(self, control: Sample, treatment: Sample) -> Difference:
        """Return treatment minus control with its interval and always-valid p-value.

        The p-value is the smallest alpha whose interval excludes zero; during the burn-in it is 1.
        """
        estimate, half = treatment.mean - control.mean, float(self.half_width(control, treatment))
        if min(control.n, treatment.n) < max(self.burn_in, 2):
            return Difference(estimate, estimate - half, estimate + half, 1.0)
        squared_error = control.variance / control.n + treatment.variance / treatment.n
        if squared_error == 0:
            return Difference(estimate, estimate - half, estimate + half, 1.0 if estimate == 0 else 0.0)
        m = (control.n + treatment.n) * self.rho_squared
        log_p = math.log(m + 1) / 2 - estimate**2 / squared_error * m / (2 * (m + 1))
        return Difference(estimate, estimate - half, estimate + half, math.exp(min(log_p, 0.0)))


def running_sample(values: ArrayLike, member: ArrayLike) -> RunningSample:
    """Summarise a sample after each user, shape (n,), in their order of entry; `member` has shape (..., n)."""
    array, of_sample = np.asarray(values, dtype=np.float64), np.asarray(member, dtype=bool)
    # shifted: a mean far from zero would cost the variance its precision
    shift = array.mean() if len(array) else 0.0
    shifted = np.where(of_sample, array - shift, 0.0)
    n, sums, squares = (np.cumsum(terms, axis=-1) for terms in (of_sample, shifted, shifted**2))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / n
        variance = np.where(n > 1, np.maximum(squares - sums * mean, 0.0) / (n - 1), np.nan)
    return RunningSample(n, shift + mean, variance)


Floats = NDArray[np.float64]


def ratio_values(numerator: ArrayLike, denominator: ArrayLike) -> Floats:
    """Return values, shape (n,), whose mean is sum(x) / sum(y), with the variance of the delta method.

    R + (x − R y) / mean(y) (Deng, Knoblich and Lu, "Applying the delta method in metric analytics", KDD 2018). A ratio
    of sums weighs each session alike, where a mean of users' ratios weighs each user alike.
    """
    x, y = np.asarray(numerator, dtype=np.float64), np.asarray(denominator, dtype=np.float64)
    ratio = x.sum() / y.sum()
    return np.asarray(ratio + (x - ratio * y) / y.mean())


def quantile_values(values: ArrayLike, level: float) -> Floats:
    """Return values whose mean is a quantile, with the variance of its central limit theorem, p (1 − p) / (n f(q)²).

    The influence values q + (p − 1[x ≤ q]) / f(q), centred; NaN stays NaN. The density f at the quantile is the inverse
    of the distance of two order statistics (Siddiqui, J. Res. NBS 64B, 1960) with Hall and Sheather's bandwidth (JRSS B
    50, 1988).
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
    return np.asarray(q + influence - np.nanmean(influence))


def add_linearised(
    users: pd.DataFrame, levels: Sequence[float], metrics: Sequence[str], *, ratio: bool = True
) -> pd.DataFrame:
    """Add the ratio `time_per_session` and quantiles over users, arm by arm."""
    parts = []
    for _, arm in users.groupby("treatment", observed=True):
        columns = {"time_per_session": ratio_values(arm["time"], arm["sessions"])} if ratio else {}
        for level in levels:
            columns |= {f"p{100 * level:g}_{metric}": quantile_values(arm[metric], level) for metric in metrics}
        parts.append(arm.assign(**columns))
    return pd.concat(parts).reindex(users.index) if parts else users
