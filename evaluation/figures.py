"""Figures of a recommender over its replays, and how sure they are: users are what is independent, not events."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.evaluation.log import Ints
from botify.evaluation.run import METRICS, Outcome

Floats = NDArray[np.float64]

RESAMPLES = 2_000
CONFIDENCE = 0.95
SLICES = 20  # of the log, in the learning curve
HISTORY_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # where the bins of the curve by history length begin


class Clustered(NamedTuple):
    """A mean over targets with its standard error, clustered by user."""

    mean: float
    error: float


class Difference(NamedTuple):
    """A difference of means with its interval."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class UserSums:
    """Each user's number of targets and sum of each metric over all replays; arrays of shape (users,)."""

    counts: Floats
    sums: dict[str, Floats]

    @classmethod
    def of(cls, outcomes: Sequence[Outcome], users: int) -> "UserSums":
        """Add up the reported targets."""
        counts = np.zeros(users)
        sums = {metric: np.zeros(users) for metric in METRICS}
        for outcome in outcomes:
            chosen = outcome.users[outcome.reported]
            counts += np.bincount(chosen, minlength=users)
            for metric in METRICS:
                sums[metric] += np.bincount(chosen, outcome.metrics[metric][outcome.reported], users)
        return cls(counts, sums)

    def clustered(self, metric: str) -> Clustered:
        """Return the mean and its error over users, the ratio estimator's: √(U/(U-1) · Σ (S_u - m·n_u)²) / Σ n_u."""
        there = self.counts > 0
        counts, sums = self.counts[there], self.sums[metric][there]
        mean, users = float(sums.sum() / counts.sum()), len(counts)
        if users < 2:
            return Clustered(mean, float("nan"))
        squares = float(((sums - mean * counts) ** 2).sum())
        return Clustered(mean, float(np.sqrt(users / (users - 1) * squares) / counts.sum()))


def paired_bootstrap(
    one: UserSums, other: UserSums, metric: str, seed: int = 0, resamples: int = RESAMPLES
) -> Difference:
    """Return how much better the first is, with a percentile interval over users drawn with replacement.

    Both answered the same questions, so a user is drawn with the answers of both (Efron and Tibshirani, "An
    Introduction to the Bootstrap", 1993, chapter 8).
    """
    there = one.counts > 0
    counts, gains = one.counts[there], (one.sums[metric] - other.sums[metric])[there]
    generator, users = np.random.default_rng(seed), len(counts)
    drawn = np.empty(resamples)
    for at in range(resamples):
        weights = np.bincount(generator.integers(users, size=users), minlength=users)
        drawn[at] = weights @ gains / (weights @ counts)
    lower, upper = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Difference(float(gains.sum() / counts.sum()), float(lower), float(upper))


@dataclass(frozen=True, slots=True)
class Row:
    """One recommender of a table.

    `spread` is the standard deviation between replays, NaN for a single one. `figures` are means over replays:
    coverage, novelty, popularity and costs. `differences` are against the baseline, and empty for it. `by_position` and
    `by_history` have mean recall and targets by share of the log and by the user's events.
    """

    name: str
    note: str
    metrics: dict[str, Clustered]
    spread: dict[str, float]
    figures: dict[str, float]
    differences: dict[str, Difference]
    by_position: pd.DataFrame
    by_history: pd.DataFrame


def rows_of(outcomes: dict[str, Sequence[Outcome]], baseline: str, users: int) -> list[Row]:
    """Return a row for each recommender; their outcomes are of the same replays, and one is the baseline."""
    sums = {name: UserSums.of(of, users) for name, of in outcomes.items()}
    return [
        Row(
            name,
            of[0].note,
            {metric: sums[name].clustered(metric) for metric in METRICS},
            {metric: _spread([float(one.metrics[metric][one.reported].mean()) for one in of]) for metric in METRICS},
            {figure: float(np.mean([one.figures[figure] for one in of])) for figure in of[0].figures},
            {metric: paired_bootstrap(sums[name], sums[baseline], metric) for metric in METRICS[:2]}
            if name != baseline
            else {},
            _curve(of, lambda one: np.minimum((one.positions * SLICES).astype(np.int64), SLICES - 1) / SLICES),
            _curve([_reported(one) for one in of], _history_bins),
        )
        for name, of in outcomes.items()
    ]


def new_rows(outcomes: dict[str, Sequence[Outcome]], baseline: str, users: int, plays: float) -> list[Row]:
    """Return the rows for targets with fewer earlier plays of their item; none if there is no such target."""
    of_new: dict[str, Sequence[Outcome]] = {
        name: [replace(one, reported=one.reported & (one.plays < plays)) for one in of] for name, of in outcomes.items()
    }
    return rows_of(of_new, baseline, users) if all(one.reported.any() for one in of_new[baseline]) else []


def questions_of(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """Return how many targets the first replay reports on, and of how many users."""
    users = outcomes[0].users[outcomes[0].reported]
    return len(users), len(np.unique(users))


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _reported(outcome: Outcome) -> Outcome:
    chosen = outcome.reported
    metrics = {name: values[chosen] for name, values in outcome.metrics.items()}
    names = ("users", "positions", "histories", "plays", "reported")
    columns = {name: getattr(outcome, name)[chosen] for name in names}
    return replace(outcome, metrics=metrics, **columns)


def _history_bins(outcome: Outcome) -> Ints:
    steps = np.array([0, *HISTORY_STEPS])
    return steps[np.searchsorted(steps, outcome.histories, side="right") - 1]


def _curve(outcomes: Sequence[Outcome], bins: Callable[[Outcome], NDArray[np.generic]]) -> pd.DataFrame:
    """Return mean recall and the number of targets by bin, over all replays."""
    frame = pd.concat([pd.DataFrame({"bin": bins(one), "recall": one.metrics["recall"]}) for one in outcomes])
    return frame.groupby("bin")["recall"].agg(["mean", "count"])
