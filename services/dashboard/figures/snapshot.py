"""What the dashboard knows at one moment: made once a second, never changed, shown to every viewer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from services.dashboard.figures.effects import ExperimentReading
from services.dashboard.figures.listen_sample import Latency, RecommenderShare


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
