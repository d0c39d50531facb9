"""One thread a process reads Kafka and Redis once a second, whoever is looking."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from core.errors import BotifyError
from core.kafka.admin import check_kafka
from core.settings import Settings
from schemas.registry import codec_of
from services.dashboard.figures import Catalogue, History, Snapshot
from services.dashboard.listens import ListenReader
from services.dashboard.part import Part
from services.dashboard.readers import LettersReader, ModelsReader, RankingsReader, ReplaysReader, Titles, TrafficReader
from streams.read import StateReader
from streams.store.connect import check_redis, connect

EVERY_S = 1.0
CATALOGUE_EVERY_S = 5.0
RANKINGS_EVERY_S = 5.0
EXPERIMENTS_EVERY_S = 3.0
MODELS_EVERY_S = 5.0
STOP_TIMEOUT_S = 10.0

log = logging.getLogger(__name__)


class Collector:
    """Makes one snapshot a second; viewers read that, and nothing else.

    Nothing is written and no consumer group is joined, so any number of gateways may have one.

    Attributes
    ----------
    snapshot : Snapshot
        The newest. Replaced as a whole, so any thread may read it.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dashboard-collector", daemon=True)
        self._history = History()
        self._experiments_due_s = 0.0
        codec = codec_of(settings)

        def state() -> StateReader:
            return StateReader(connect(settings), settings)

        self._titles = Part("catalogue", lambda: Titles(settings, codec), CATALOGUE_EVERY_S)
        self._listens = Part("listens", lambda: ListenReader(settings, codec))
        self._traffic = Part("traffic", lambda: TrafficReader(settings, state()))
        self._letters = Part("dead letters", lambda: LettersReader(settings, connect(settings)))
        self._rankings = Part("popularity", lambda: RankingsReader(state(), lambda: self.catalogue), RANKINGS_EVERY_S)
        self._replays = Part("replays", lambda: ReplaysReader(settings, connect(settings)))
        self._models = Part("models", lambda: ModelsReader(settings, connect(settings)), MODELS_EVERY_S)
        self.snapshot = Snapshot()

    @property
    def catalogue(self) -> Catalogue:
        """The newest catalogue; empty before it was read."""
        return self._titles.value or {}

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self) -> None:
        """Read no more, and let go of the servers."""
        self._stop.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + EVERY_S, time.monotonic())  # a slow second is not made up for
            try:
                self.snapshot = self._take(time.monotonic())
            except Exception:  # the thread must outlive what nobody foresaw: the pages would freeze without a word
                log.exception("the dashboard could not take a snapshot")
        for part in self._parts():
            part.close()

    def _take(self, now_s: float) -> Snapshot:
        problems: list[str] = []
        kafka = _answers(check_kafka, self._settings, problems)
        redis = _answers(check_redis, self._settings, problems)
        if kafka:
            self._titles.refresh(now_s)
            self._listens.refresh(now_s)
        if redis:
            self._rankings.refresh(now_s)
            self._replays.refresh(now_s)
            self._models.refresh(now_s)
        if kafka and redis:
            self._traffic.refresh(now_s)
            self._letters.refresh(now_s)
        problems += [part.problem for part in self._parts() if part.problem]
        return self._compose(now_s, tuple(problems), whole=kafka and redis)

    def _compose(self, now_s: float, problems: tuple[str, ...], whole: bool) -> Snapshot:
        sample = self._listens.value
        latency = sample.figures.latency() if sample else None
        self._history.add(self._traffic.value if whole else None, latency)
        experiments = self.snapshot.experiments
        if sample and now_s >= self._experiments_due_s:
            self._experiments_due_s = now_s + EXPERIMENTS_EVERY_S
            experiments = sample.figures.experiments()
            self._history.add_effects(experiments)
        return Snapshot(
            at_s=time.time(),
            traffic=self._traffic.value,
            latency=latency,
            history=self._history.moments(),
            recommenders=sample.figures.recommenders() if sample else (),
            sample=sample.sample if sample else None,
            rankings=self._rankings.value,
            experiments=experiments,
            effect_history=self._history.effects(),
            letters=self._letters.value or (),
            replays=self._replays.value or (),
            models=self._models.value or (),
            problems=problems,
        )

    def _parts(self) -> tuple[Part[Any], ...]:
        return (self._titles, self._listens, self._traffic, self._letters, self._rankings, self._replays, self._models)


def _answers(check: Callable[[Settings], None], settings: Settings, problems: list[str]) -> bool:
    """Ask before a client would wait for a server that is away; the others' parts go on."""
    try:
        check(settings)
    except BotifyError as error:
        problems.append(str(error))
        return False
    return True
