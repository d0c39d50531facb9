"""What a recommender is worth against another on the same sessions: the ratio of means, with its interval.

The oracle: an agent that is told each session's hidden interest, and recommends what will be heard most.

Greedy: at every step the track with the highest true fraction, artist discount included. What a recommender lacks to it
is its regret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.special import expit

from bench.recommenders.pipeline import Pipeline, rows_of
from core.keyed_random import mix
from schemas.events import Track
from services.recommender.catalogue import Catalogue
from services.recommender.lists import Lists
from sim.agents import Agent
from sim.listeners.botify import BotifyListeners
from sim.options import RunOptions
from sim.play import Progress, play_world
from sim.simulation import FinishedListens
from sim.world.model import World


class Effect(NamedTuple):
    """By how much a mean is above another, in percent of that, with an interval."""

    percent: float
    lower: float
    upper: float

    @property
    def factor(self) -> tuple[float, float, float]:
        """The same as multiples of the other mean."""
        return 1 + self.percent / 100, 1 + self.lower / 100, 1 + self.upper / 100


def paired_effect(
    users: NDArray[np.int64], control: NDArray[np.float64], treatment: NDArray[np.float64], alpha: float = 0.05
) -> Effect:
    """Compare what the same sessions came to.

    Sessions of one listener are alike, so listeners are the units: with C_u and T_u the sums of a listener's sessions,
    R = Σ T_u / Σ C_u is a ratio estimator, and its variance that of the residuals T_u − R C_u (Cochran, "Sampling
    techniques", 1977, chapter 6).

    Parameters
    ----------
    users : ndarray of int64, shape (n,)
        Whose session.
    control, treatment : ndarray of float64, shape (n,)
        The same sessions, under one and the other.
    alpha : float
        One minus the confidence.

    Examples
    --------
    >>> effect = paired_effect(np.array([1, 2, 3]), np.array([1.0, 2.0, 3.0]), np.array([2.2, 3.8, 6.0]))
    >>> round(effect.percent), effect.lower < 100 < effect.upper
    (100, True)
    """
    _, unit = np.unique(users, return_inverse=True)
    c, t = np.bincount(unit, control), np.bincount(unit, treatment)
    n, ratio = len(c), float(t.sum() / c.sum())
    residuals = t - ratio * c
    error = float(np.sqrt(n / max(n - 1, 1) * (residuals**2).sum()) / c.sum())
    half = float(stats.t.ppf(1 - alpha / 2, max(n - 1, 1))) * error
    return Effect(100 * (ratio - 1), 100 * (ratio - half - 1), 100 * (ratio + half - 1))


class Interval(NamedTuple):
    """A mean with its interval."""

    mean: float
    lower: float
    upper: float


def mean_of_sessions(users: NDArray[np.int64], values: NDArray[np.float64], alpha: float = 0.05) -> Interval:
    """Return the mean of sessions; as in `paired_effect`, listeners are the units.

    Examples
    --------
    >>> mean_of_sessions(np.array([1, 1, 2]), np.array([2.0, 2.0, 2.0]))
    Interval(mean=2.0, lower=2.0, upper=2.0)
    """
    effect = paired_effect(users, np.ones(len(values)), values, alpha)
    return Interval(*effect.factor)


NEAREST = 700
"""Tracks that a session chooses from; more than a session has."""


class Oracle:
    """Knows what only the simulator knows.

    Parameters
    ----------
    world : World
    seed : int
        Of the run.
    """

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._listeners = BotifyListeners(world, seed)
        self._near: dict[int, NDArray[np.int64]] = {}
        self._values: dict[int, NDArray[np.float64]] = {}

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        """Return the best track for each session."""
        self._open(heard.where(heard.positions == 0))
        return np.array([self._next(*row) for row in zip(heard.users.tolist(), heard.tracks.tolist(), strict=True)])

    def finish(self, heard: FinishedListens) -> None:
        """Forget sessions."""
        for user in heard.users.tolist():
            self._near.pop(user, None)
            self._values.pop(user, None)

    def _open(self, heard: FinishedListens) -> None:
        if not len(heard):
            return
        users = heard.users
        keys = mix(self._seed, users, heard.ordinals)
        tastes = self._listeners.open(users, keys, heard.time_ms).tastes
        scores = tastes.astype(np.float32) @ self._world.catalogue.embeddings.T
        near = np.argpartition(-scores, min(NEAREST, scores.shape[1]) - 1, axis=1)[:, :NEAREST]
        people = self._world.listeners
        logits = np.take_along_axis(scores, near, axis=1) - people.consume_bias[users][:, None]
        affinity = expit(logits * people.consume_sharpness[users][:, None])
        for user, tracks, values in zip(users.tolist(), near, affinity, strict=True):
            self._near[user], self._values[user] = tracks, values

    def _next(self, user: int, heard: int) -> int:
        tracks, values = self._near[user], self._values[user]
        artists = self._world.catalogue.artist_of
        values[artists[tracks] == artists[heard]] *= self._world.listeners.artist_discount_gamma[user]
        values[tracks == heard] = -1.0
        best = int(np.argmax(values))
        values[best] = -1.0
        return int(tracks[best])


ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run came to.

    Attributes
    ----------
    name : str
    users : ndarray of int64, shape (sessions,)
        Whose session: the same sessions in every run of these options, in the order in which they are dealt.
    times, tracks : ndarray of float64, shape (sessions,)
        Sum of fractions and number of listens.
    ended_ms : ndarray of int64, shape (sessions,)
        Event time of the last listen.
    us_per_recommendation : float
        CPU time; 0 for the oracle, which does not serve.
    coverage : float
        Share of the catalogue that was recommended.
    repeats : float
        Share of recommendations that the session had had.
    """

    name: str
    users: NDArray[np.int64]
    times: NDArray[np.float64]
    tracks: NDArray[np.float64]
    ended_ms: NDArray[np.int64]
    us_per_recommendation: float
    coverage: float
    repeats: float

    def after(self, sessions: int) -> Measured:
        """Return the run without the sessions that were dealt first; the figures of all of it stay."""
        left = {name: getattr(self, name)[sessions:] for name in ("users", "times", "tracks", "ended_ms")}
        return replace(self, **left)


class _Sessions:
    """Adds up sessions as their listens come."""

    def __init__(self, tracks: int) -> None:
        self._heard: dict[int, list[int]] = {}
        self._time: dict[int, float] = {}
        self._recommended = np.zeros(tracks, dtype=bool)
        self._repeats = self._recommendations = 0
        self.over: list[tuple[int, int, float, int, int]] = []

    def take(self, heard: FinishedListens) -> None:
        for user, ordinal, position, track, fraction, at_ms, ended in rows_of(heard):
            tracks = self._heard.setdefault(user, [])
            if position:
                self._recommended[track] = True
                self._recommendations += 1
                self._repeats += track in tracks
            tracks.append(track)
            self._time[user] = self._time.get(user, 0.0) + fraction
            if ended:
                self.over.append((user, ordinal, self._time.pop(user), len(self._heard.pop(user)), at_ms))

    @property
    def coverage(self) -> float:
        return float(self._recommended.mean())

    @property
    def repeats(self) -> float:
        return self._repeats / max(self._recommendations, 1)


def measure(
    world: World,
    tracks: Mapping[int, Track],
    name: str,
    options: RunOptions,
    lists: Mapping[str, Lists],
    learn_until_ms: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Measured:
    """Run a recommender, or the oracle.

    Parameters
    ----------
    options : RunOptions
        The same for all.
    lists : mapping of name to Lists
        What a batch job made.
    learn_until_ms : int, optional
        Event time from which on its models stay as they are.
    """
    agent: Agent
    pipeline = None
    if name == ORACLE:
        agent = Oracle(world, options.seed)
    else:
        agent = pipeline = Pipeline(tracks, Catalogue(tracks.values()), name, lists, learn_until_ms)
    sessions = _Sessions(len(world.catalogue))
    play_world(world, agent, options, progress, sessions.take)
    users, ordinals, times, counts, ended_ms = np.array(sessions.over, dtype=np.float64).T
    # as `sim.options.schedule_of` deals them
    order = np.lexsort((mix(options.seed, users.astype(np.int64)), ordinals))
    return Measured(
        name=name,
        users=users[order].astype(np.int64),
        times=times[order],
        tracks=counts[order],
        ended_ms=ended_ms[order].astype(np.int64),
        us_per_recommendation=pipeline.serving_s / pipeline.answered * 1e6 if pipeline else 0.0,
        coverage=sessions.coverage,
        repeats=sessions.repeats,
    )
