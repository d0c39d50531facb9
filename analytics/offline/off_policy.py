"""Off-policy evaluation: the value of a target policy from the log of another policy.

A decision is logged with its reward and its probability under the logging policy (`propensity`); the ratio of the
target policy's probability to it is the decision's weight. All three estimators evaluate decisions in the situations
that the logging policy led to, not the situations that the target policy would lead to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from botify.analytics import AnalyticsError
from botify.analytics.offline.data import Lists, RewardModel, mean_over_list, probability

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Logged decisions with their probabilities under both policies.

    Raises `AnalyticsError` if lengths differ, or a probability is out of range.
    """

    rewards: Floats  # shape (n,)
    propensities: Floats  # shape (n,); the logging policy's probability of the decision, in (0, 1]
    targets: Floats  # shape (n,); the target policy's, in [0, 1]
    # shape (n,); users of the decisions. A user's decisions are not independent, so the interval is over users; by
    # default, over decisions.
    users: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.rewards, self.propensities, self.targets, self.users) if a is not None}
        if len(lengths) != 1 or not len(self.rewards):
            raise AnalyticsError(f"rewards, propensities, targets and users must be of one length, not {lengths}")
        if not ((self.propensities > 0) & (self.propensities <= 1)).all():
            raise AnalyticsError("propensities must be above 0 and at most 1, as every logged decision was possible")
        if not ((self.targets >= 0) & (self.targets <= 1)).all():
            raise AnalyticsError("the target policy's probabilities must be between 0 and 1")

    def weights(self, clip: float | None = None) -> Floats:
        """Return target / propensity, at most `clip`."""
        ratios: Floats = self.targets / self.propensities
        return ratios if clip is None else np.minimum(ratios, clip)


class Interval(StrEnum):
    """How an interval is made."""

    T = "t"
    """Student's: right for many decisions of rewards that are not rare."""
    SKEWED = "skewed"
    """Corrected for skewness (Hall, JRSS B 54, 1992): for rare rewards and heavy weights."""


class PolicyValue(NamedTuple):
    """A policy's estimated mean reward."""

    value: float
    lower: float
    upper: float
    # effective sample size (Σw)² / Σw² (Kish, 1965). If it is a small share of the decisions, the policies hardly
    # overlap and the interval is not reliable.
    effective_decisions: float


def ips(
    decisions: Decisions, alpha: float = 0.05, clip: float | None = None, interval: Interval = Interval.T
) -> PolicyValue:
    """Weight each reward by target / propensity (Horvitz and Thompson, JASA 47, 1952): unbiased, high variance.

    `alpha`: one minus the confidence.
    `clip`: largest weight: less variance, but a downward bias for non-negative rewards.
    """
    weights = decisions.weights(clip)
    terms = weights * decisions.rewards
    value = float(terms.mean())
    return with_interval(value, terms - value, decisions.users, weights, alpha, interval)


def snips(
    decisions: Decisions, alpha: float = 0.05, clip: float | None = None, interval: Interval = Interval.T
) -> PolicyValue:
    """Divide by the mean weight (Swaminathan and Joachims, NeurIPS 2015): a small bias, much less variance.

    The errors are the delta method's. Parameters as for `ips`.

    Raises `AnalyticsError` if the target policy takes none of the logged decisions.
    """
    weights = decisions.weights(clip)
    mean_weight = float(weights.mean())
    if mean_weight == 0:
        raise AnalyticsError("the target policy takes none of the logged decisions, so they cannot evaluate it")
    value = float((weights * decisions.rewards).mean()) / mean_weight
    return with_interval(
        value, weights * (decisions.rewards - value) / mean_weight, decisions.users, weights, alpha, interval
    )


def doubly_robust(
    decisions: Decisions,
    predicted: Floats,
    predicted_under_target: Floats,
    alpha: float = 0.05,
    clip: float | None = None,
    interval: Interval = Interval.T,
) -> PolicyValue:
    """Correct a reward model by weighted residuals (Dudík, Langford and Li, ICML 2011).

    Unbiased for any model if the propensities are right; a better model gives less variance.

    Parameters
    ----------
    predicted : ndarray of float64, shape (n,)
        Predicted reward of each decision, by a model that was fitted to other decisions.
    predicted_under_target : ndarray of float64, shape (n,)
        Predicted reward in the same situation, averaged over the target policy's decisions.
    alpha, clip, interval
        As for `ips`.
    """
    weights = decisions.weights(clip)
    terms = predicted_under_target + weights * (decisions.rewards - predicted)
    value = float(terms.mean())
    return with_interval(value, terms - value, decisions.users, weights, alpha, interval)


def with_interval(
    value: float, deviations: Floats, users: NDArray[np.int64] | None, weights: Floats, alpha: float, interval: Interval
) -> PolicyValue:
    """Put an interval around a mean, given each decision's deviation from it, decisions of a user taken together."""
    sums = deviations
    if users is not None:
        sums = np.bincount(np.unique(users, return_inverse=True)[1], weights=deviations).astype(np.float64)
    groups = len(sums)
    if groups < 2:
        return PolicyValue(value, float("nan"), float("nan"), _effective(weights))
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(deviations))
    high = float(stats.t.isf(alpha / 2, groups - 1))
    above, below = high, -high
    if interval is Interval.SKEWED and error > 0:
        skewness = _skewness(sums)
        above, below = _less_skewed(high, skewness), _less_skewed(-high, skewness)
    return PolicyValue(value, value - above * error, value - below * error, _effective(weights))


def _skewness(sums: Floats) -> float:
    """Return the skewness of the mean of values that are centred."""
    squares = sums * sums  # numpy's general power is ten times as slow
    return float((squares * sums).mean() / squares.mean() ** 1.5) / math.sqrt(len(sums))


def _less_skewed(quantile: float, skewness: float) -> float:
    """Return the quantile of the studentised mean of skewed values that corresponds to one of Student's t."""
    if abs(skewness) < 1e-6:
        return quantile
    return float(3 / skewness * (np.cbrt(1 + skewness * (quantile - skewness / 6)) - 1))


def _effective(weights: Floats) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


class Evaluation(NamedTuple):
    """A policy's value by three estimators; that of SNIPS is NaN if the policy takes none of the decisions."""

    ips: PolicyValue
    snips: PolicyValue
    dr: PolicyValue


_NOTHING = PolicyValue(math.nan, math.nan, math.nan, 0.0)


def evaluate_drawn(decisions: pd.DataFrame, lists: Lists, tracks: int, model: RewardModel) -> Evaluation:
    """Estimate the value of a policy that draws uniformly from lists, in logged situations.

    Parameters
    ----------
    lists : ndarray of int64, shape (n, k)
        Tracks from which the policy draws; the whole catalogue if a list is empty.
    tracks : int
        Size of the catalogue.
    model : RewardModel
        Fitted on other decisions.

    Raises `AnalyticsError` if there are no decisions.
    """
    target = probability(lists, decisions["track"], otherwise=1 / tracks)
    log = _log(decisions, target)
    previous, track = decisions["previous"].to_numpy(), decisions["track"].to_numpy()
    predicted = model.predict(previous, track[:, None])[:, 0]
    under_target = mean_over_list(lists, model.predict(previous, lists), float(model.quality.mean()))
    return Evaluation(ips(log), snips(log) if target.any() else _NOTHING, doubly_robust(log, predicted, under_target))


def earned(decisions: pd.DataFrame) -> PolicyValue:
    """Return the mean reward of a policy's own decisions, with its interval over users."""
    return ips(_log(decisions, decisions["propensity"].to_numpy()))


def _log(decisions: pd.DataFrame, target: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Decisions:
    rewards, propensities = (decisions[name].to_numpy(np.float64) for name in ("reward", "propensity"))
    return Decisions(rewards, propensities, target, decisions["user"].to_numpy(np.int64))
