"""What another recommender's answers would have been worth, from the log of the one that served."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.analytics import AnalyticsError
from botify.analytics.offline.off_policy import (
    Clipped,
    Decisions,
    Interval,
    PolicyValue,
    RewardModel,
    doubly_robust_clipped,
    earned,
    ips,
    snips,
)
from botify.analytics.offline.ranking import NO_TRACK
from botify.analytics.offline.slates import Slates, cascade_snips
from botify.evaluation.whatif.answers import Row
from botify.services.recommender.catalogue import Catalogue

Floats = NDArray[np.float64]

FEWEST = 50
"""Answers, by effective number, from which on an interval is believed; of fewer its 95 % are not."""
MOST_LOST = 0.05  # share of the other recommender's answers that the log may say nothing of
MOST_PLACES = 50  # answers of a session that are weighted together


class Value(NamedTuple):
    """The share of the next track that is heard, for requests as the log has them; 95 % intervals over listeners."""

    answers: int
    listeners: int
    served: PolicyValue
    ips: PolicyValue
    snips: PolicyValue | None  # None if no logged answer is one of the other recommender's
    dr: Clipped
    # the answers that would say as much if the other recommender had served
    effective: float
    impossible: float  # share of the other recommender's answers that what served never gives
    # time heard of a session's answers: of what served, and of the other one with all weights of the session
    session_served: float | None
    session: PolicyValue | None
    cannot_tell: str | None  # why not

    @property
    def percent(self) -> tuple[float, float, float]:
        """The difference and its interval, in % of the value of what served."""
        change, of = self.dr.difference, self.served.value / 100 or math.nan
        return change.value / of, change.lower / of, change.upper / of


def value_of(rows: Sequence[Row], catalogue: Catalogue) -> Value:
    """Estimate the value of the other recommender; rows whose reward is not known yet are left out.

    Raises `AnalyticsError` if none is left.
    """
    frame = pd.DataFrame([row for row in rows if row.reward is not None and row.propensity > 0], columns=Row._fields)
    if frame.empty:
        raise AnalyticsError("no answered request for the next track can be judged; wait until the tracks were heard")
    for name in ("previous", "track", "other"):
        frame[name] = catalogue.rows_of(frame[name].to_numpy(np.int64))
    frame = frame[frame["track"] >= 0].reset_index(drop=True)
    users, rewards = frame["user"].to_numpy(np.int64), frame["reward"].to_numpy(np.float64)
    log = Decisions(rewards, frame["propensity"].to_numpy(), frame["target"].to_numpy(), users)
    support, chance = frame["support"].to_numpy(np.float64), frame["chance"].to_numpy(np.float64)
    ratios = np.divide(chance, support, out=np.full(len(frame), np.inf), where=support > 0)
    dr = doubly_robust_clipped(log, *_predicted(frame, catalogue.artist_of), ratios)
    effective = _effective(log.weights(), ratios)
    made = Value(
        len(frame), len(np.unique(users)), earned(frame), ips(log, interval=Interval.SKEWED),
        snips(log, interval=Interval.SKEWED) if log.targets.any() else None, dr, effective,
        float(np.isinf(ratios).mean()), *_sessions(frame), None,
    )  # fmt: skip
    return made._replace(cannot_tell=_why_not(made))


def _effective(weights: Floats, ratios: Floats) -> float:
    """Return the effective number of answers: n / E[w²], the lesser of what the log has and of what it should have.

    The mean of the ratio over the other recommender's own answers is E[w²], whether or not they were matched; of few
    matches the weights alone would say that there are enough. What is impossible counts elsewhere.
    """
    possible = np.isfinite(ratios)
    squares = float((weights**2).sum())
    expected = possible.sum() ** 2 / float(ratios[possible].sum()) if possible.any() else 0.0
    return float(min(expected, weights.sum() ** 2 / squares if squares else 0.0))


def _why_not(value: Value) -> str | None:
    if value.impossible > MOST_LOST:
        return (
            f"{value.impossible:.0%} of its answers are such as the one that served never gives, so nobody knows what "
            "listeners make of them"
        )
    if value.effective < FEWEST:
        return (
            f"what is known of its answers is worth {value.effective:,.0f} answers, and {FEWEST} are needed; take a "
            "longer time, or a log that explores more"
        )
    if math.isnan(value.dr.value.lower):
        return "there is one listener only"
    return None


def _predicted(frame: pd.DataFrame, artist_of: NDArray[np.integer]) -> tuple[Floats, Floats]:
    """Return what a model of the other half of the listeners says of the tracks answered, and of the other ones."""
    columns = ("previous", "track", "other")
    previous, track, other = (np.maximum(frame[name].to_numpy(np.int64), 0) for name in columns)
    predicted, instead = np.zeros(len(frame)), np.zeros(len(frame))
    half = pd.factorize(frame["user"])[0] % 2 == 0
    for judged in (half, ~half):
        learned = frame[~judged] if (~judged).any() else frame
        model = RewardModel.fit(learned.assign(previous=learned["previous"].clip(0)), artist_of.astype(np.int64))
        for tracks, found in ((track, predicted), (other, instead)):
            found[judged] = model.predict(previous[judged], tracks[judged, None])[:, 0]
    return np.clip(predicted, 0.0, 1.0), np.clip(instead, 0.0, 1.0)


def _sessions(frame: pd.DataFrame) -> tuple[float | None, PolicyValue | None]:
    """Return the time of a session's answers, of what served and of the other one.

    All weights of a session are multiplied up to each answer, so that it counts as if the other recommender had
    answered from the session's start. Sessions without their first answer, or with a gap, are left out.
    """
    ordered = frame.sort_values(["user", "session", "position"], kind="stable")
    number, _ = pd.factorize(pd.MultiIndex.from_frame(ordered[["user", "session"]]))
    place = ordered.groupby(number).cumcount().to_numpy()
    whole = ~pd.Series(ordered["position"].to_numpy() != place).groupby(number).transform("any").to_numpy(bool)
    kept = whole & (place < MOST_PLACES)
    if not kept.any():
        return None, None
    rows, (_, at) = place[kept], np.unique(number[kept], return_inverse=True)
    shape = int(at.max()) + 1, int(rows.max()) + 1
    tracks = np.full(shape, NO_TRACK, dtype=np.int64)
    propensities, targets, rewards = np.ones(shape), np.ones(shape), np.zeros(shape)
    users = np.zeros(shape[0], dtype=np.int64)
    users[at] = ordered["user"].to_numpy()[kept]
    for name, column in zip(
        ("track", "propensity", "target", "reward"), (tracks, propensities, targets, rewards), strict=True
    ):
        column[at, rows] = ordered[name].to_numpy()[kept]
    served = float(rewards.sum(axis=1).mean())
    try:
        return served, cascade_snips(Slates(users, np.zeros_like(users), tracks, propensities, rewards), targets)
    except AnalyticsError:
        return served, None
