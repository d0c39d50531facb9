"""Off-policy evaluation: the value of a target policy from the log of another policy.

A decision is logged with its reward and its probability under the logging policy (`propensity`); the ratio of the
target policy's probability to it is the decision's weight. All three estimators evaluate decisions in the situations
that the logging policy led to, not the situations that the target policy would lead to.

The target policies here draw uniformly from a list (popular tracks, an artist's, a track's neighbours, a listener's
own), which gives their probability of any track.
"""

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from botify.analytics import AnalyticsError
from botify.analytics.offline.ranking import NO_TRACK

Floats = NDArray[np.float64]
Lists = NDArray[np.int64]  # (decisions, k): tracks from which each is drawn; `NO_TRACK` after the end of a list


def logged_decisions(listens: pd.DataFrame) -> pd.DataFrame:
    """Return the recommendations that were played, each with the track before it.

    A listen of a slate is among them, but its listener chose it from several: `analytics.offline.slates` is for those.

    The result has a row for each recommendation with a propensity: user, session_id, position, timestamp_ms, previous
    (the track before it), track, reward (the fraction heard) and propensity.
    """
    ordered = listens.sort_values(["user", "session_id", "position"], kind="stable", ignore_index=True)
    before = ordered.shift(1)
    follows = (
        (before["user"] == ordered["user"])
        & (before["session_id"] == ordered["session_id"])
        & (before["position"] + 1 == ordered["position"])
    )
    decided = ordered[follows & ordered["propensity"].notna()]
    decided = decided.assign(previous=before["track"][decided.index].astype(np.int64), reward=decided["fraction"])
    names = ["user", "session_id", "position", "timestamp_ms", "previous", "track", "reward", "propensity"]
    return decided[names].reset_index(drop=True)


def probability(lists: Lists, tracks: ArrayLike, otherwise: float) -> Floats:
    """Return the probability, shape (n,), of each track to be drawn from its list, `otherwise` if that is empty."""
    sizes = (lists != NO_TRACK).sum(axis=1)
    hits = (lists == np.asarray(tracks)[:, None]).any(axis=1)
    return np.where(sizes > 0, hits / np.maximum(sizes, 1), otherwise)


def mean_over_list(lists: Lists, values: Floats, otherwise: ArrayLike) -> Floats:
    """Return the mean of a value, shape (n, k), over each list, and `otherwise`, shape (n,), of an empty one."""
    present = lists != NO_TRACK
    sizes = present.sum(axis=1)
    sums = np.where(present, values, 0.0).sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), otherwise)


def padded(groups: list[NDArray[np.int64]]) -> Lists:
    """Return lists of different lengths as one array."""
    lists = np.full((len(groups), max((len(group) for group in groups), default=0)), NO_TRACK, dtype=np.int64)
    for row, group in enumerate(groups):
        lists[row, : len(group)] = group
    return lists


PRIOR_DECISIONS = 20  # decisions of average reward that are added to each track's own, as a prior

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RewardModel:
    """Mean reward of each track, plus a bonus if it is by the artist just heard."""

    artist_of: Ints  # shape (tracks,); by track id
    quality: Floats  # shape (tracks,); mean reward of each track, shrunk towards the mean of all
    same_artist: float

    @classmethod
    def fit(cls, decisions: pd.DataFrame, artist_of: Ints) -> Self:
        """Fit the model to decisions other than those to evaluate."""
        track, reward = decisions["track"].to_numpy(), decisions["reward"].to_numpy()
        sums = np.bincount(track, reward, len(artist_of))
        counts = np.bincount(track, minlength=len(artist_of))
        quality = (sums + PRIOR_DECISIONS * reward.mean()) / (counts + PRIOR_DECISIONS)
        same = artist_of[track] == artist_of[decisions["previous"].to_numpy()]
        return cls(artist_of, quality, float((reward - quality[track])[same].mean()) if same.any() else 0.0)

    def predict(self, previous: Ints, tracks: Ints) -> Floats:
        """Return the reward of each track, shape (n, k), given the track before it; the mean reward at `NO_TRACK`."""
        known = np.where(tracks == NO_TRACK, 0, tracks)
        same = (self.artist_of[known] == self.artist_of[previous][:, None]) & (tracks != NO_TRACK)
        reward: Floats = self.quality[known] + self.same_artist * same
        reward[tracks == NO_TRACK] = self.quality.mean()
        return reward


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

    T = "t"  # Student's: right for many decisions of rewards that are not rare
    SKEWED = "skewed"  # corrected for skewness (Hall, JRSS B 54, 1992): for rare rewards and heavy weights


class PolicyValue(NamedTuple):
    """A policy's estimated mean reward."""

    value: float
    lower: float
    upper: float
    # effective sample size (Σw)² / Σw² (Kish, 1965). If it is a small share of the decisions, the policies hardly
    # overlap and the interval is not reliable.
    effective_decisions: float


def ips(decisions: Decisions, clip: float | None = None, interval: Interval = Interval.T) -> PolicyValue:
    """Weight each reward by target / propensity (Horvitz and Thompson, JASA 47, 1952): unbiased, high variance.

    `clip` is the largest weight: less variance, but a downward bias for non-negative rewards.
    """
    weights = decisions.weights(clip)
    terms = weights * decisions.rewards
    value = float(terms.mean())
    return with_interval(value, terms - value, decisions.users, weights, interval)


def snips(decisions: Decisions, clip: float | None = None, interval: Interval = Interval.T) -> PolicyValue:
    """Divide by the mean weight (Swaminathan and Joachims, NeurIPS 2015): a small bias, much less variance.

    The errors are the delta method's. Raises `AnalyticsError` if the target policy takes none of the logged decisions.
    """
    weights = decisions.weights(clip)
    mean_weight = float(weights.mean())
    if mean_weight == 0:
        raise AnalyticsError("the target policy takes none of the logged decisions, so they cannot evaluate it")
    value = float((weights * decisions.rewards).mean()) / mean_weight
    deviations = weights * (decisions.rewards - value) / mean_weight
    return with_interval(value, deviations, decisions.users, weights, interval)


def doubly_robust(
    decisions: Decisions,
    predicted: Floats,
    predicted_under_target: Floats,
    clip: float | None = None,
    interval: Interval = Interval.T,
) -> PolicyValue:
    """Correct a reward model by weighted residuals (Dudík, Langford and Li, ICML 2011).

    Unbiased for any model if the propensities are right; a better model gives less variance. `predicted`, shape (n,),
    is each decision's reward by a model that was fitted to others, `predicted_under_target` that in the same situation,
    averaged over the target policy's decisions.
    """
    weights = decisions.weights(clip)
    terms = predicted_under_target + weights * (decisions.rewards - predicted)
    value = float(terms.mean())
    return with_interval(value, terms - value, decisions.users, weights, interval)


CLIPS = tuple(2.0**power for power in range(1, 13))


class Clipped(NamedTuple):
    """A doubly robust value, its difference to what was logged, and the clip, None for none.

    The intervals hold what clipping can have cost at most. `lost` is the share of the target policy that it cost: its
    decisions are not corrected by any reward.
    """

    value: PolicyValue
    difference: PolicyValue
    clip: float | None
    lost: float


def doubly_robust_clipped(
    decisions: Decisions, predicted: Floats, predicted_under_target: Floats, ratios: Floats
) -> Clipped:
    """Return the doubly robust value of rewards in [0, 1] with the clip, of `CLIPS` or none, of the narrowest interval.

    `ratios`, shape (n,), are target / logging probability of a decision b that the target policy draws in each
    situation, infinite where the logging policy never takes it; `predicted_under_target` is b's predicted reward q. A
    clip c takes away the share l = (1 − c / ratio)₊ of b, all of it if the ratio is infinite. The reward is in [0, 1]
    and the model says q, so this moves the value by −l (1 − q) at least and l q at most: bounds that hold whatever was
    matched in the log.
    """
    found = []
    for clip in (None, *CLIPS):
        weights = decisions.weights(clip)
        with np.errstate(divide="ignore"):
            lost = np.isinf(ratios) * 1.0 if clip is None else np.maximum(1 - clip / np.maximum(ratios, 1e-300), 0.0)
        terms = predicted_under_target + weights * (decisions.rewards - predicted)
        down, up = float((lost * predicted_under_target).mean()), float((lost * (1 - predicted_under_target)).mean())
        value, difference = (
            _widened(of, decisions.users, weights, down, up) for of in (terms, terms - decisions.rewards)
        )
        found.append(Clipped(value, difference, clip, float(lost.mean())))
    return min(found, key=lambda one: one.value.upper - one.value.lower)


def _widened(terms: Floats, users: NDArray[np.int64] | None, weights: Floats, down: float, up: float) -> PolicyValue:
    mean = float(terms.mean())
    found = with_interval(mean, terms - mean, users, weights, Interval.SKEWED)
    return found._replace(lower=found.lower - down, upper=found.upper + up)


ALPHA = 0.05  # one minus the confidence of all intervals


def with_interval(
    value: float, deviations: Floats, users: NDArray[np.int64] | None, weights: Floats, interval: Interval = Interval.T
) -> PolicyValue:
    """Put an interval around a mean, given each decision's deviation from it, decisions of a user taken together."""
    sums = deviations
    if users is not None:
        sums = np.bincount(np.unique(users, return_inverse=True)[1], weights=deviations).astype(np.float64)
    groups = len(sums)
    if groups < 2:
        return PolicyValue(value, float("nan"), float("nan"), _effective(weights))
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum()) / len(deviations))
    high = float(stats.t.isf(ALPHA / 2, groups - 1))
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
    """Estimate the value of a policy that draws uniformly from lists, shape (n, k), in logged situations.

    An empty list stands for the whole catalogue. The model is fitted on other decisions. Raises `AnalyticsError`
    without decisions.
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
