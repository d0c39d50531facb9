"""The figures that the pages show, and how they are made of readings. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.events import Listen, Track
from services.dashboard.effects import ExperimentReading, ListenerTotals, read_experiments
from streams.folds.users import UserState

Catalogue = Mapping[int, Track]
"""Track id to track; never changed."""


def search(catalogue: Catalogue, words: str, most: int = 12) -> list[Track]:
    """Return tracks whose title or artist has all the words, in the order of the catalogue.

    Examples
    --------
    >>> catalogue = {7: Track(7, "Kanye West", None, None, "Stronger")}
    >>> search(catalogue, "kanye strong"), search(catalogue, "weaker")
    ([Track(track=7, artist='Kanye West', album=None, genre=None, title='Stronger', external_id=None)], [])
    """
    wanted = words.casefold().split()
    found: list[Track] = []
    for track in catalogue.values() if wanted else ():
        text = f"{track.title} {track.artist}".casefold()
        if all(word in text for word in wanted):
            found.append(track)
            if len(found) == most:
                break
    return found


SECONDS = 120
EFFECT_POINTS = 120

Bounds = tuple[float, float, float]
Key = tuple[str, str, str]


class History:
    """Bounded rings; the collector adds to them once a second.

    Examples
    --------
    >>> history = History()
    >>> history.add(Traffic(9, 8, 100.0, 90.0, (0,), (0,), 0), Latency(3.0, 9.0))
    >>> history.moments()
    (Moment(listens_per_s=100.0, recommendations_per_s=90.0, p50_ms=3.0, p99_ms=9.0),)
    """

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=SECONDS)
        self._effects: dict[Key, deque[Bounds]] = {}

    def add(self, traffic: Traffic | None, latency: Latency | None) -> None:
        """Add a second; one that could not be read is a gap."""
        rates = (traffic.listens_per_s, traffic.recommendations_per_s) if traffic else (math.nan, math.nan)
        self._moments.append(Moment(*rates, *(latency or (math.nan, math.nan))))

    def add_effects(self, experiments: Iterable[ExperimentReading]) -> None:
        """Add the effects as they are now; of those that were never met before, a ring is begun."""
        for experiment in experiments:
            for effect in experiment.effects:
                key = (experiment.name, effect.treatment, effect.metric)
                points = self._effects.setdefault(key, deque(maxlen=EFFECT_POINTS))
                if not math.isnan(effect.lower):
                    points.append((effect.effect, effect.lower, effect.upper))

    def moments(self) -> tuple[Moment, ...]:
        """Return the seconds, oldest first."""
        return tuple(self._moments)

    def effects(self) -> Mapping[Key, tuple[Bounds, ...]]:
        """Return effect, lower and upper bound in % over time, by (experiment, treatment, metric)."""
        return {key: tuple(points) for key, points in self._effects.items()}


SCANNED = 40_000
"""Records of the listener's partition that are looked through, the newest; about 0.1 s."""


@dataclass(frozen=True, slots=True)
class ListenerReading:
    """What is known of a listener.

    Attributes
    ----------
    state : UserState | None
        None for one never heard.
    partition : int
    listens : tuple of Listen
        Oldest first; those among the last `SCANNED` records of the partition.
    """

    user: int
    state: UserState | None
    partition: int
    listens: tuple[Listen, ...]


PRIOR = 3.0
"""Listens added to both sides, so that a track heard once is no sensation."""


def rise(recent: ArrayLike, longer: ArrayLike) -> NDArray[np.float64]:
    """Return how many times as popular tracks are as their longer past would have it.

    Popularity with a short half-life is compared with what a track's share of the popularity with a long one would
    give; additive smoothing (Laplace) keeps rare tracks near 1.

    Parameters
    ----------
    recent, longer : array_like, shape (n,)
        Popularity of the same tracks with a short and a long half-life.

    Returns
    -------
    ndarray of float64, shape (n,)

    Examples
    --------
    >>> rise([10.0, 30.0], [20.0, 20.0]).round(2).tolist()
    [0.57, 1.43]
    """
    now, past = np.asarray(recent, dtype=np.float64), np.asarray(longer, dtype=np.float64)
    total = past.sum()
    expected = past * (now.sum() / total) if total > 0 else past
    return np.asarray((now + PRIOR) / (expected + PRIOR))


class HeardSession(NamedTuple):
    """Listens of one session, oldest first."""

    session_id: str
    listens: tuple[Listen, ...]

    @property
    def time(self) -> float:
        """Sum of fractions."""
        return sum(listen.fraction for listen in self.listens)

    @property
    def ended(self) -> bool:
        """Whether the listener went away."""
        return self.listens[-1].ended_session


def by_session(listens: Iterable[Listen]) -> list[HeardSession]:
    """Group one listener's listens, given oldest first; the newest session comes first.

    Examples
    --------
    >>> listen = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, True, None, {}, None, None)
    >>> [(session.session_id, session.time, session.ended) for session in by_session([listen])]
    [('a', 0.5, True)]
    """
    sessions: dict[str, list[Listen]] = {}
    for listen in listens:
        sessions.setdefault(listen.session_id, []).append(listen)
    return [HeardSession(session_id, tuple(of)) for session_id, of in reversed(sessions.items())]


RECENT = 4_000
"""Listens that shares and latencies are taken over: some seconds of a busy loop."""


class Latency(NamedTuple):
    """Round trip from request to recommendation, as the listeners saw it, in milliseconds."""

    p50_ms: float
    p99_ms: float


class RecommenderShare(NamedTuple):
    """A recommender's part of the last listens.

    Attributes
    ----------
    share : float
        Of the listens that were recommended.
    mean_fraction : float
        How much of a track was heard.
    """

    recommender: str
    share: float
    mean_fraction: float


class ListenSample:
    """Takes the sampled listens in; costs about a microsecond each.

    Examples
    --------
    >>> sample = ListenSample()
    >>> sample.update([Listen("a:1", 42, 8, 0.5, 2000, "a", 1, True, "random", {"X": "C"}, 0.1, 3.0)])
    >>> sample.latency(), sample.recommenders()
    (Latency(p50_ms=3.0, p99_ms=3.0), (RecommenderShare(recommender='random', share=1.0, mean_fraction=0.5),))
    """

    def __init__(self) -> None:
        self._totals = ListenerTotals()
        self._latencies_ms: deque[float] = deque(maxlen=RECENT)
        self._recommended: deque[tuple[str, float]] = deque(maxlen=RECENT)

    def update(self, listens: Iterable[Listen]) -> None:
        """Take listens in; each listener's are in their order."""
        for listen in listens:
            self._totals.update(listen)
            if listen.recommender is not None:
                self._recommended.append((listen.recommender, listen.fraction))
                if listen.latency_ms is not None:
                    self._latencies_ms.append(listen.latency_ms)

    def latency(self) -> Latency | None:
        """Return the percentiles over the last listens; None before the first answer."""
        if not self._latencies_ms:
            return None
        p50, p99 = np.percentile(np.array(self._latencies_ms), [50, 99]).tolist()
        return Latency(p50, p99)

    def recommenders(self) -> tuple[RecommenderShare, ...]:
        """Return who recommended the last listens, the biggest share first."""
        fractions: dict[str, list[float]] = {}
        for recommender, fraction in self._recommended:
            fractions.setdefault(recommender, []).append(fraction)
        total = len(self._recommended)
        shares = [RecommenderShare(name, len(of), sum(of) / len(of)) for name, of in fractions.items()]
        ordered = sorted(shares, key=lambda each: (-each.share, each.recommender))
        return tuple(each._replace(share=each.share / total) for each in ordered)

    def experiments(self) -> tuple[ExperimentReading, ...]:
        """Return every experiment that was met."""
        return read_experiments(self._totals)


class Traffic(NamedTuple):
    """What Kafka and Redis say about the loop.

    Attributes
    ----------
    listens, recommendations : int
        Records that the topics have had.
    listens_per_s, recommendations_per_s : float
        Over the last second.
    worker_lag, recommender_lag : tuple of int
        Records that wait, by partition: for the state in Redis, and for an answer.
    dead_letters : int
    """

    listens: int
    recommendations: int
    listens_per_s: float
    recommendations_per_s: float
    worker_lag: tuple[int, ...]
    recommender_lag: tuple[int, ...]
    dead_letters: int


class Moment(NamedTuple):
    """One second of the charts; latencies are NaN before the first answer."""

    listens_per_s: float
    recommendations_per_s: float
    p50_ms: float
    p99_ms: float


class RankedTrack(NamedTuple):
    """A track of a ranking; `value` is its popularity, or how many times as popular as before it is."""

    track: int
    title: str
    artist: str
    value: float


class Rankings(NamedTuple):
    """What is popular, and what is getting popular, best first."""

    now: tuple[RankedTrack, ...]
    rising: tuple[RankedTrack, ...]
    month: tuple[RankedTrack, ...]
    event_time_ms: int


class Letter(NamedTuple):
    """A dead letter; `deed` says what an operator did with it, empty while it is open."""

    origin: str
    at_ms: int
    reason: str
    message: str
    value: bytes
    deed: str


class Replay(NamedTuple):
    """A namespace beside the live one, or the live one.

    Attributes
    ----------
    folded, wanted : int
        Records that it has folded of those that it was begun for.
    note : str
        Why it is not the whole state, or what comparing it with the live one gave.
    """

    id: str
    role: str
    created_ms: int
    folded: int
    wanted: int
    note: str


class LearnedModel(NamedTuple):
    """A model's newest snapshot; `filled` is its share of what a record has room for."""

    name: str
    bytes: int
    filled: float


class Sample(NamedTuple):
    """Which part of the listeners the figures from single listens are taken from."""

    partitions: int
    of: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that is shown to all viewers alike; a part that was never read is None or empty.

    Attributes
    ----------
    at_s : float
        Wall clock.
    history : tuple of Moment
        The last two minutes, a second each.
    effect_history : Mapping of (experiment, treatment, metric) to tuple of (float, float, float)
        Effect and its bounds in % as they were, oldest first.
    problems : tuple of str
        What could not be read, and why.
    """

    at_s: float = 0.0
    traffic: Traffic | None = None
    latency: Latency | None = None
    history: tuple[Moment, ...] = ()
    recommenders: tuple[RecommenderShare, ...] = ()
    sample: Sample | None = None
    rankings: Rankings | None = None
    experiments: tuple[ExperimentReading, ...] = ()
    effect_history: Mapping[tuple[str, str, str], tuple[tuple[float, float, float], ...]] = field(default_factory=dict)
    letters: tuple[Letter, ...] = ()
    replays: tuple[Replay, ...] = ()
    models: tuple[LearnedModel, ...] = ()
    problems: tuple[str, ...] = ()
