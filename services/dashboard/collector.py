"""One thread per process reads Kafka and Redis once a second, for all viewers, and has commands decide experiments."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Generic, NamedTuple, TypeVar

import psutil
from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from botify.core.errors import BotifyError
from botify.core.kafka.admin import check_kafka
from botify.core.settings import Settings
from botify.schemas.registry import codec_of
from botify.services.dashboard.figures import GAP, ListenSample, Moment, Snapshot, TracksById, Verdict
from botify.services.dashboard.history import History
from botify.services.dashboard.readers import (
    Reader,
    experiments_reader,
    letters_reader,
    listens_reader,
    models_reader,
    newest_reader,
    processes_reader,
    store_reader,
    titles_reader,
    topic_reader,
    traffic_reader,
)
from botify.services.dashboard.troubles import troubles_of
from botify.services.experiments import Experiments, LiveExperiments
from botify.services.stack.record import shortage_of_stack
from botify.streams.store.connect import check_redis, connect

EVERY_S = 1.0
QUIET_EVERY_S = 30.0  # between two readings while nobody looks: a point of the history of an hour
QUIET_AFTER_S = 60.0
MODELS_EVERY_S = 2.0
POLICIES_EVERY_S = 3.0
SELDOM_EVERY_S = 5.0
STOP_TIMEOUT_S = 10.0
ASK_EVERY_S = 15.0  # of `botify experiment`, in a process of its own
AT_MOST = 0.1  # share of the time in which a command runs: it reads all listens, at the lowest priority
ANSWER_TIMEOUT_S = 1_800.0
MOST_LISTENS = 2_000_000  # more take too much memory next to a gateway

log = logging.getLogger(__name__)

Question = tuple[str, ...]  # an experiment, and `--decide` if its verdict is asked for


class _Asked(NamedTuple):
    question: Question
    began_s: float
    process: subprocess.Popen[str]


class _Answer(NamedTuple):
    at_s: float
    value: Any = None
    problem: str = ""


class Verdicts:
    """Asks one question at a time, in turn; raises nothing, because an answer that fails says why."""

    def __init__(
        self, settings: Settings, command: Sequence[str] = (sys.executable, "-m", "botify.services.cli")
    ) -> None:
        self._command = command
        self._environment = {**os.environ, **settings.to_env()}
        self._asked: _Asked | None = None
        self._due_s = 0.0
        self._known: dict[Question, _Answer] = {}

    def read(self, experiments: Mapping[str, bool], listens: int = 0) -> Mapping[str, Verdict]:
        """Return what is known by now of experiments, given with whether they have goals; does not wait."""
        now_s = time.monotonic()
        if listens > MOST_LISTENS:
            why = f"{listens:,} listens are too many to read here; use `botify experiment results`, also with --decide"
            return {name: Verdict(has_goals=has_goals, problem=why) for name, has_goals in experiments.items()}
        if self._asked is not None:
            self._listen(self._asked, now_s)
        questions: list[Question] = [(name,) for name in experiments]
        questions += [(name, "--decide") for name, has_goals in experiments.items() if has_goals]
        if self._asked is None and questions:
            oldest = min(questions, key=lambda one: self._known.get(one, _Answer(0.0)).at_s)
            if oldest not in self._known or now_s >= self._due_s:
                self._ask(oldest, now_s)
        found = {}
        for name, has_goals in experiments.items():
            results, decided = (self._known.get(asked, _Answer(0.0)) for asked in ((name,), (name, "--decide")))
            problem = results.problem or decided.problem
            found[name] = Verdict(results.value, decided.value, has_goals, results.at_s, problem)
        return found

    def close(self) -> None:
        if self._asked is not None:
            self._asked.process.kill()
            self._asked.process.communicate()
            self._asked = None

    def _ask(self, question: Question, now_s: float) -> None:
        process = subprocess.Popen(  # noqa: S603 - our own command, and names from our own file
            [*self._command, "experiment", "results", *question, "--json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        psutil.Process(process.pid).nice(19)
        self._asked = _Asked(question, now_s, process)

    def _listen(self, asked: _Asked, now_s: float) -> None:
        took_s = now_s - asked.began_s
        try:
            said, refused = asked.process.communicate(timeout=0.01)
        except subprocess.TimeoutExpired:
            if took_s > ANSWER_TIMEOUT_S:
                asked.process.kill()
            return
        self._asked = None
        if asked.process.returncode == 0:
            answer = _Answer(time.time(), json.loads(said))
        else:
            why = (refused or said).strip() or f"`botify experiment` ended with status {asked.process.returncode}"
            answer = _Answer(time.time(), problem=why.splitlines()[-1])
        self._known[asked.question] = answer
        self._due_s = now_s + max(ASK_EVERY_S, took_s / AT_MOST)


T = TypeVar("T")


class Part(Generic[T]):
    """A part of the snapshot whose value outlives failures of its server; `problem` says why the last reading failed.

    `make` gives a reader, and another one after a failure, so that no broken connection is kept; `every_s` is the least
    time between two readings.

    Examples
    --------
    >>> part = Part("time", lambda: (time for time in ("noon", "one")))
    >>> part.refresh(now_s=0.0), part.refresh(now_s=1.0), part.problem
    ('noon', 'one', '')
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
            self.value = next(self._reader)
            self.problem = ""
        except (BotifyError, KafkaException, RedisError, TimeoutError, OSError) as error:
            problem = f"{self._name}: {error}"
            if problem != self.problem:
                log.warning("the dashboard cannot read %s", problem)
            self.problem = problem
            self.close()
        return self.value

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class Collector:
    """Makes one snapshot a second while it is looked at; viewers read it and nothing else.

    It writes the file of its history only and joins no consumer group, so every gateway may have one. After
    `QUIET_AFTER_S` without a look it reads every `QUIET_EVERY_S` what the history and the troubles need; the next look
    wakes it. `responses` returns how often this gateway has answered, by route and status.
    """

    def __init__(self, settings: Settings, responses: Callable[[], Mapping[tuple[str, int], int]] = dict) -> None:
        self._settings = settings
        self._responses = responses
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._looked_s = float("-inf")
        self._thread = threading.Thread(target=self._run, name="dashboard-collector", daemon=True)
        self._history = History(settings.home / "cache" / f"history-{settings.topic_prefix}.json")
        self._policies_due_s = 0.0
        codec = codec_of(settings)
        self._titles = Part("catalogue", lambda: titles_reader(settings, codec), SELDOM_EVERY_S)
        self._declared = Part("experiments", lambda: experiments_reader(settings, codec), SELDOM_EVERY_S)
        self._topic = Part("the topic of the listens", lambda: topic_reader(settings), SELDOM_EVERY_S)
        self._listens = Part("listens", lambda: listens_reader(settings, codec))
        self._newest = Part("the newest listens", lambda: newest_reader(settings, codec))
        self._traffic = Part("traffic", lambda: traffic_reader(settings, connect(settings)))
        self._letters = Part("dead letters", lambda: letters_reader(settings, connect(settings)))
        self._store = Part(
            "state", lambda: store_reader(settings, connect(settings), lambda: self.catalogue), SELDOM_EVERY_S
        )
        self._models = Part("models", lambda: models_reader(settings, connect(settings), codec), MODELS_EVERY_S)
        self._processes = Part("processes", lambda: processes_reader(settings), MODELS_EVERY_S)
        topics = (self._titles, self._declared, self._topic, self._listens, self._letters, self._models)
        self._parts: tuple[Part[Any], ...] = (*topics, self._traffic, self._store, self._processes)
        self._verdicts = Verdicts(settings)
        self._snapshot = Snapshot()

    @property
    def snapshot(self) -> Snapshot:
        """The newest snapshot; reading it is a look. Replaced as a whole, so any thread may read it."""
        self._looked_s = time.monotonic()
        self._wake.set()
        return self._snapshot

    @property
    def catalogue(self) -> TracksById:
        return self._titles.value or {}

    @property
    def experiments(self) -> Experiments | None:
        """The experiments as they are now; None before the first reading."""
        return self._declared.value.current if self._declared.value else None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._wake.set()
        self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        due_s = time.monotonic()
        while not self._stop.wait(max(0.0, due_s - time.monotonic())):
            due_s = max(due_s + EVERY_S, time.monotonic())  # seconds that were missed are skipped
            self._wake.clear()  # here, so that a look during this round is not lost
            looked = time.monotonic() - self._looked_s <= QUIET_AFTER_S
            try:
                self._snapshot = self._take(time.monotonic(), looked)
            except Exception:  # without the thread, every page would silently stop changing
                log.exception("the dashboard could not take a snapshot")
            if time.monotonic() - self._looked_s > QUIET_AFTER_S:
                resting: tuple[Part[Any], ...] = (self._titles, self._listens, self._store, self._models)
                for part in resting:
                    part.close()
                self._verdicts.close()
                if not self._stop.is_set():
                    self._wake.wait(QUIET_EVERY_S)
        for part in self._parts:
            part.close()
        self._verdicts.close()
        self._history.write(time.time())

    def _take(self, now_s: float, looked: bool) -> Snapshot:
        problems = shortage_of_stack(self._settings.home)
        kafka = _is_reachable(check_kafka, self._settings, problems)
        redis = _is_reachable(check_redis, self._settings, problems)
        due: list[Part[Any]] = [self._processes]
        if kafka:
            due += [self._declared, *([self._titles, self._listens] if looked else [self._newest])]
        if redis and looked:
            due += [self._store]
        if kafka and redis:
            due += [self._traffic, self._letters, *([self._models] if looked else [])]
        before = self._topic.value
        if kafka and (topic := self._topic.refresh(now_s)) and before and topic.layout != before.layout:
            self._listens.close()  # and begin again with those of the other topic
            self._traffic.close()
        for part in due:
            part.refresh(now_s)
        problems += [part.problem for part in self._parts if part.problem]
        sample = self._listens.value if looked else self._newest.value
        return self._compose(now_s, tuple(problems), sample, whole=kafka and redis)

    def _compose(self, now_s: float, problems: tuple[str, ...], sample: ListenSample | None, whole: bool) -> Snapshot:
        before, declared, stored, at_s = self._snapshot, self._declared.value, self._store.value, time.time()
        policies = before.policies
        if sample and declared and now_s >= self._policies_due_s:
            self._policies_due_s = now_s + POLICIES_EVERY_S
            policies = sample.policies(declared.current)
        snapshot = Snapshot(
            at_s=at_s,
            traffic=self._traffic.value,
            latency=sample.latency() if sample else None,
            sampled=sample.source if sample else "",
            rankings=stored.rankings if stored else None,
            verdicts=self._judged(declared),
            letters=self._letters.value or (),
            replays=stored.replays if stored else (),
            models=self._models.value or (),
            policies=policies,
            processes=self._processes.value or (),
            responses=self._history.add_responses(at_s, self._responses()),
            ramps=declared.steps if declared else {},
            simulated=self._topic.value is not None and self._topic.value.simulated,
            problems=problems,
        )
        self._history.add(at_s, _moment(snapshot) if whole else GAP)
        snapshot = replace(snapshot, history=self._history.moments(at_s))
        # figures of answers that were given more than two minutes ago say nothing
        if not any(moment.recommendations_per_s > 0 for moment in snapshot.history["2 min"]):
            snapshot = replace(snapshot, policies=(), latency=None)
        return replace(snapshot, troubles=self._history.lasting(at_s, troubles_of(snapshot)))

    def _judged(self, declared: LiveExperiments | None) -> Mapping[str, Verdict]:
        if declared is None or time.monotonic() - self._looked_s > QUIET_AFTER_S:
            return self._snapshot.verdicts
        listens = self._traffic.value.listens if self._traffic.value else 0
        have_goals = {one.name: one.goals is not None for one in declared.current.experiments}
        return self._verdicts.read(have_goals, listens)


def _moment(snapshot: Snapshot) -> Moment:
    """Return a reading for the history; what is about answers is a gap while none are given."""
    traffic, latency, responses = snapshot.traffic, snapshot.latency, snapshot.responses
    if traffic is None:
        return GAP
    answers = traffic.recommendations_per_s > 0
    p50_ms, p99_ms = latency if latency and answers else (math.nan, math.nan)
    return Moment(
        traffic.listens_per_s,
        traffic.recommendations_per_s,
        p50_ms,
        p99_ms,
        sum(traffic.worker_lag),
        sum(traffic.recommender_lag),
        traffic.learner_lag,
        snapshot.replaced if answers else math.nan,
        responses.errors / responses.all if responses and responses.all else math.nan,
    )


def _is_reachable(check: Callable[[Settings], None], settings: Settings, problems: list[str]) -> bool:
    """Check a server before a client would block on it; parts that do not need it are still read."""
    try:
        check(settings)
    except BotifyError as error:
        problems.append(str(error))
        return False
    return True
