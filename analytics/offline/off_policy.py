"""What another policy would have earned, from what one policy logged.

A decision is logged with its reward and the probability with which the logging policy took it (`propensity`). The
target policy's probability of the same decision says how much it counts. All three estimators judge the decisions in
the situations that the logging policy led to: a policy that brings listeners into other situations is judged by its
decisions, not by where they lead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analytics.errors import AnalyticsError
from analytics.offline.data import Lists, RewardModel, mean_over_list, probability
from core.welch import clustered_half_width

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Decisions:
    """Logged decisions, and how the target policy sees them.

    Attributes
    ----------
    rewards : ndarray of float64, shape (n,)
    propensities : ndarray of float64, shape (n,)
        The logging policy's probability of the decision, in (0, 1].
    targets : ndarray of float64, shape (n,)
        The target policy's, in [0, 1].
    users : ndarray of int64, shape (n,), optional
        Whose decisions: those of one user are not independent, so the interval is over users. Without, each decision
        stands for itself.

    Raises
    ------
    AnalyticsError
        Lengths differ, or a probability is out of range.
    """

    rewards: Floats
    propensities: Floats
    targets: Floats
    users: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = {len(a) for a in (self.rewards, self.propensities, self.targets, self.users) if a is not None}
        if len(lengths) != 1 or not len(self.rewards):
            raise AnalyticsError(f"rewards, propensities, targets and users must be of one length, not {lengths}")
        if not ((self.propensities > 0) & (self.propensities <= 1)).all():
            raise AnalyticsError(
                "propensities must be above 0 and at most 1: a decision that cannot be taken was never logged"
            )
        if not ((self.targets >= 0) & (self.targets <= 1)).all():
            raise AnalyticsError("the target policy's probabilities must be between 0 and 1")

    def weights(self, clip: float | None = None) -> Floats:
        """Return target / propensity, at most `clip`."""
        ratios: Floats = self.targets / self.propensities
        return ratios if clip is None else np.minimum(ratios, clip)


class PolicyValue(NamedTuple):
    """A policy's estimated mean reward.

    Attributes
    ----------
    value, lower, upper : float
    effective_decisions : float
        How many decisions of the target policy itself would tell as much: (Σw)² / Σw² (Kish, 1965). Few of many
        mean that the policies hardly overlap, and that the interval is not to be trusted.
    """

    value: float
    lower: float
    upper: float
    effective_decisions: float


def ips(decisions: Decisions, alpha: float = 0.05, clip: float | None = None) -> PolicyValue:
    """Weigh each reward by target / propensity (Horvitz and Thompson, JASA 47, 1952): unbiased, noisy.

    Parameters
    ----------
    alpha : float
        One minus the confidence.
    clip : float, optional
        Largest weight: less noise, for a value that is too low (of rewards that are not negative).

    Examples
    --------
    >>> log = Decisions(np.array([1.0, 0.0]), np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    >>> ips(log).value
    1.0
    """
    weights = decisions.weights(clip)
    terms = weights * decisions.rewards
    value = float(terms.mean())
    return _with_interval(value, terms - value, decisions.users, weights, alpha)


def snips(decisions: Decisions, alpha: float = 0.05, clip: float | None = None) -> PolicyValue:
    """Divide by the mean weight (Swaminathan and Joachims, NeurIPS 2015): a little bias, much less noise.

    The interval is the delta method's. Parameters as for `ips`.

    Raises
    ------
    AnalyticsError
        The target policy takes none of the logged decisions.
    """
    weights = decisions.weights(clip)
    mean_weight = float(weights.mean())
    if mean_weight == 0:
        raise AnalyticsError("the target policy takes none of the logged decisions; they say nothing about it")
    value = float((weights * decisions.rewards).mean()) / mean_weight
    return _with_interval(value, weights * (decisions.rewards - value) / mean_weight, decisions.users, weights, alpha)


def doubly_robust(
    decisions: Decisions,
    predicted: Floats,
    predicted_under_target: Floats,
    alpha: float = 0.05,
    clip: float | None = None,
) -> PolicyValue:
    """Correct a reward model by weighted residuals (Dudík, Langford and Li, ICML 2011).

    Right if the propensities are, whatever the model; the better the model, the less noise.

    Parameters
    ----------
    predicted : ndarray of float64, shape (n,)
        The model's reward of the decision that was taken; the model must not have been fitted on these decisions.
    predicted_under_target : ndarray of float64, shape (n,)
        The model's reward in the same situation, averaged over the target policy's decisions.
    alpha, clip
        As for `ips`.
    """
    weights = decisions.weights(clip)
    terms = predicted_under_target + weights * (decisions.rewards - predicted)
    value = float(terms.mean())
    return _with_interval(value, terms - value, decisions.users, weights, alpha)


def _with_interval(
    value: float, deviations: Floats, users: NDArray[np.int64] | None, weights: Floats, alpha: float
) -> PolicyValue:
    """Put a t interval around a mean, given each decision's deviation from it, decisions of a user taken together."""
    units = np.arange(len(deviations)) if users is None else users
    half = clustered_half_width(units, deviations, len(deviations), alpha)
    return PolicyValue(value, value - half, value + half, _effective(weights))


def _effective(weights: Floats) -> float:
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


class Evaluation(NamedTuple):
    """A policy's value by three estimators; that of SNIPS is NaN where the policy takes none of the decisions."""

    ips: PolicyValue
    snips: PolicyValue
    dr: PolicyValue


_NOTHING = PolicyValue(math.nan, math.nan, math.nan, 0.0)


def evaluate_drawn(decisions: pd.DataFrame, lists: Lists, tracks: int, model: RewardModel) -> Evaluation:
    """Estimate what a policy would have earned in logged situations.

    Parameters
    ----------
    decisions : DataFrame, length n
        As `analytics.offline.data.logged_decisions`.
    lists : ndarray of int64, shape (n, k)
        What the policy would have drawn from; from the whole catalogue where a list is empty.
    tracks : int
        How many the catalogue has.
    model : RewardModel
        Fitted on other decisions.

    Raises
    ------
    AnalyticsError
        There are no decisions.
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
