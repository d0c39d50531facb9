"""One thread per process reads Kafka and Redis once a second, for all viewers."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, Protocol, TypeVar

import httpx
from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from core.errors import BotifyError
from core.kafka.admin import check_kafka
from core.settings import Settings
from schemas.registry import codec_of
from services.dashboard.charts import Bounds
from services.dashboard.effects import ExperimentReading
from services.dashboard.figures import (
    EFFECT_POINTS,
    EFFECTS_EVERY_S,
    SECONDS,
    EffectKey,
    Latency,
    Moment,
    Responses,
    Snapshot,
    TracksById,
    Traffic,
)
from services.dashboard.listens import LayoutReader, ListenReader
from services.dashboard.readers import (
    BanditReader,
    ExperimentsReader,
    LettersReader,
    ModelsReader,
    ProcessesReader,
    RankingsReader,
    ReplaysReader,
    Titles,
    TrafficReader,
)
from services.experiments import Experiments
from services.stack.disk import shortage_of_stack
from streams.read import StateReader
from streams.store.connect import check_redis, connect

EVERY_S = 1.0
SLEEP_AFTER_S = 60.0
CATALOGUE_EVERY_S = 5.0
RANKINGS_EVERY_S = 5.0
MODELS_EVERY_S = 2.0
LAYOUT_EVERY_S = 5.0
STOP_TIMEOUT_S = 10.0
MINUTE = 61  # readings, the first of them a minute before the last

log = logging.getLogger(__name__)

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Reader(Protocol[T_co]):
    """Reads one part of the snapshot."""

    def read(self) -> T_co:
        """Return the part as it is now; raises what Kafka's and Redis's clients raise."""

    def close(self) -> None:
        """Close the connections."""


class Part(Generic[T]):
    """A part of the snapshot whose value outlives failures of its server.

    Parameters
    ----------
    name : str
    make : callable
        Connects. Called again after a failure, so that no broken connection is kept.
    every_s : float
        Least time between two readings.

    Attributes
    ----------
    problem : str
        Why the last reading failed; empty if it did not.

    Examples
    --------
    >>> class Clock:
    ...     def read(self): return "noon"
    ...     def close(self): pass
    >>> part = Part("time", Clock)
    >>> part.refresh(now_s=0.0), part.problem
    ('noon', '')
    """

    def __init__(self, name: str, make: Callable[[], Reader[T]], every_s: float = 0.0) -> None:
        self._name = name
        self._make = make
        self._every_s = every_s
        self._reader: Reader[T] | None = None
        self._read_s = float("-inf")
        self.value: T | None = None
        self.problem = ""

    def refresh(self, now_s: float) -> T | None:
        """Read the part if it is due, and return its value."""
        if now_s - self._read_s < self._every_s:
            return self.value
        self._read_s = now_s
        try:
            if self._reader is None:
                self._reader = self._make()
            self.value = self._reader.read()
            self.problem = ""
        except (BotifyError, KafkaException, RedisError, TimeoutError, OSError) as error:
            self._fail(error)
        return self.value

    def close(self) -> None:
        """Close the reader."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _fail(self, error: Exception) -> None:
        problem = f"{self._name}: {error}"
        if problem != self.problem:
            log.warning("the dashboard cannot read %s", problem)
        self.problem = problem
        self.close()


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
        self._responses: deque[Responses] = deque(maxlen=MINUTE)
        self._effects: dict[EffectKey, deque[Bounds]] = {}

    def add(self, traffic: Traffic | None, latency: Latency | None) -> None:
        """Add a second; one that could not be read is a gap."""
        rates = (traffic.listens_per_s, traffic.recommendations_per_s) if traffic else (math.nan, math.nan)
        self._moments.append(Moment(*rates, *(latency or (math.nan, math.nan))))

    def add_effects(self, experiments: Iterable[ExperimentReading]) -> None:
        """Add a point to the history of each effect that has an interval."""
        for experiment in experiments:
            for effect in experiment.effects:
                if not math.isnan(effect.lower):
                    key = (experiment.name, effect.treatment, effect.metric)
                    points = self._effects.setdefault(key, deque(maxlen=EFFECT_POINTS))
                    points.append((effect.effect, effect.lower, effect.upper))

    def add_responses(self, counts: Mapping[tuple[str, int], int]) -> Responses:
        """Add a second's counts of responses by route and status; return those of the last minute.

        Examples
        --------
        >>> history = History()
        >>> history.add_responses({("next", 200): 5}), history.add_responses({("next", 200): 9, ("next", 503): 1})
        (Responses(all=0, errors=0), Responses(all=5, errors=1))
        """
        errors = sum(count for (_, status), count in counts.items() if status >= httpx.codes.INTERNAL_SERVER_ERROR)
        now = Responses(sum(counts.values()), errors)
        self._responses.append(now)
        first = self._responses[0]
        return Responses(now.all - first.all, now.errors - first.errors)

    def moments(self) -> tuple[Moment, ...]:
        """Return the seconds, oldest first."""
        return tuple(self._moments)

    def forget_moments(self) -> None:
        """Start again: the next second does not follow the last one."""
        self._moments.clear()
        self._responses.clear()

    def effects(self) -> Mapping[EffectKey, tuple[Bounds, ...]]:
        """Return the history of each effect, oldest first."""
        return {key: tuple(points) for key, points in self._effects.items()}


class Collector:
    """Makes one snapshot a second while it is looked at; viewers read it and nothing else.

    It writes nothing and joins no consumer group, so every gateway may have one. After `SLEEP_AFTER_S` without a look
    it closes its connections. The next look wakes it: the sample of listens begins again with the newest ones.

    Parameters
    ----------
    settings : Settings
    responses : callable
        Returns how often this gateway has answered, by route and status.
    """

    def __init__(self, settings: Settings, responses: Callable[[], Mapping[tuple[str, int], int]] = dict) -> None:
        self._settings = settings
        self._responses = responses
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._looked_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="dashboard-collector", daemon=True)
        self._history = History()
        self._experiments_due_s = 0.0
        codec = codec_of(settings)

        def state() -> StateReader:
            return StateReader(connect(settings), settings)

        self._titles = Part("catalogue", lambda: Titles(settings, codec), CATALOGUE_EVERY_S)
        self._declared = Part("experiments", lambda: ExperimentsReader(settings, codec), CATALOGUE_EVERY_S)
        self._layout = Part("the layout of the listens", lambda: LayoutReader(settings), LAYOUT_EVERY_S)
        self._listens = Part("listens", lambda: ListenReader(settings, codec))
        self._traffic = Part("traffic", lambda: TrafficReader(settings, connect(settings)))
        self._letters = Part("dead letters", lambda: LettersReader(settings, connect(settings)))
        self._rankings = Part("popularity", lambda: RankingsReader(state(), lambda: self.catalogue), RANKINGS_EVERY_S)
        self._replays = Part("replays", lambda: ReplaysReader(settings, connect(settings)))
        self._models = Part("models", lambda: ModelsReader(settings, connect(settings), codec), MODELS_EVERY_S)
        self._bandit = Part("the bandit", lambda: BanditReader(state()), MODELS_EVERY_S)
        self._processes = Part("processes", lambda: ProcessesReader(settings), MODELS_EVERY_S)
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; reading it is a look. Replaced as a whole, so any thread may read it."""
        self._looked_s = time.monotonic()
        self._wake.set()
        return self._snapshot

    @property
    def catalogue(self) -> TracksById:
        """The newest catalogue; empty before the first reading."""
        return self._titles.value or {}

    @property
    def experiments(self) -> Experiments | None:
        """The experiments as they are now; None before the first reading."""
        declared = self._declared.value
        return None if declared is None else declared.experiments

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread and close the connections."""
        self._stop.set()
        self._wake.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + EVERY_S, time.monotonic())  # seconds that were missed are skipped
            self._wake.clear()  # here, so that a look during this round is not lost
            try:
                self._snapshot = self._take(time.monotonic())
            except Exception:  # without the thread, every page would silently stop changing
                log.exception("the dashboard could not take a snapshot")
            if time.monotonic() - self._looked_s > SLEEP_AFTER_S:
                self._sleep()
        self._close()

    def _sleep(self) -> None:
        self._close()
        if not self._stop.is_set():
            self._wake.wait()
        self._history.forget_moments()

    def _close(self) -> None:
        for part in self._parts():
            part.close()

    def _take(self, now_s: float) -> Snapshot:
        problems = shortage_of_stack(self._settings.home)
        kafka = _is_reachable(check_kafka, self._settings, problems)
        redis = _is_reachable(check_redis, self._settings, problems)
        due: list[Part[Any]] = [self._processes]
        if kafka:
            due += [self._titles, self._declared, self._listens]
        if redis:
            due += [self._rankings, self._replays, self._bandit]
        if kafka and redis:
            due += [self._traffic, self._letters, self._models]
        layout = self._layout.value
        if kafka and self._layout.refresh(now_s) != layout and layout is not None:
            self._listens.close()  # and begin again with those of the other topic
            self._traffic.close()
        for part in due:
            part.refresh(now_s)
        problems += [part.problem for part in self._parts() if part.problem]
        return self._compose(now_s, tuple(problems), whole=kafka and redis)

    def _compose(self, now_s: float, problems: tuple[str, ...], whole: bool) -> Snapshot:
        sampled = self._listens.value
        latency = sampled.figures.latency() if sampled else None
        self._history.add(self._traffic.value if whole else None, latency)
        experiments, policies = self._snapshot.experiments, self._snapshot.policies
        declared = self._declared.value
        if sampled and now_s >= self._experiments_due_s:
            self._experiments_due_s = now_s + EFFECTS_EVERY_S
            experiments = sampled.figures.experiments()
            self._history.add_effects(experiments)
            if declared is not None:
                policies = sampled.figures.policies(declared.experiments)
        return Snapshot(
            at_s=time.time(),
            traffic=self._traffic.value,
            latency=latency,
            history=self._history.moments(),
            recommenders=sampled.figures.recommenders() if sampled else (),
            sample=sampled.sample if sampled else None,
            rankings=self._rankings.value,
            experiments=experiments,
            effect_history=self._history.effects(),
            letters=self._letters.value or (),
            replays=self._replays.value or (),
            models=self._models.value or (),
            policies=policies,
            bandit=self._bandit.value or (),
            processes=self._processes.value or (),
            responses=self._history.add_responses(self._responses()),
            ramps=None if declared is None else declared.steps,
            problems=problems,
        )

    def _parts(self) -> tuple[Part[Any], ...]:
        return (
            self._titles,
            self._declared,
            self._layout,
            self._listens,
            self._traffic,
            self._letters,
            self._rankings,
            self._replays,
            self._models,
            self._bandit,
            self._processes,
        )


def _is_reachable(check: Callable[[Settings], None], settings: Settings, problems: list[str]) -> bool:
    """Check a server before a client would block on it; parts that do not need it are still read."""
    try:
        check(settings)
    except BotifyError as error:
        problems.append(str(error))
        return False
    return True
