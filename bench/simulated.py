"""Runs of recommenders and yardsticks on the same sessions; several at the same time, in processes of their own.

A recommender runs in a pipeline in one process: the worker's folds, the learner and the recommender, on state in
memory.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from botify.bench.random_log import lists_for
from botify.bench.yardsticks import YARDSTICKS
from botify.core.keyed_random import mix
from botify.evaluation.rankers.botify import MemoryModels, MemoryState
from botify.schemas.events import Listen, RecommendationRequest, Track
from botify.schemas.training import listens_of, training_batch_of
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import answer
from botify.services.recommender.lists import NEIGHBOURS, NO_LISTS, USER_LISTS, Lists
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from botify.sim.agents import Agent
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import find_world
from botify.sim.world.model import World
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS

TOP = 100
BATCH = 64
TOP_EVERY_LISTENS = 5_000
LISTENS_PER_S = 7_000.0
"""Speed of the clock, about that of the real loop; it replaces the wall clock, so that runs can be repeated."""


class Pipeline:
    """An agent that answers all listeners with one recommender, and learns from their listens.

    `lists` are those of the batch job, by name. From the event time `learn_until_ms` on, models no longer learn.
    `serving_s` is the CPU time of all answers, and `answered` their number.
    """

    def __init__(
        self,
        tracks: Mapping[int, Track],
        recommender: str,
        lists: Mapping[str, Lists],
        learn_until_ms: int | None = None,
    ) -> None:
        self._state = MemoryState()
        served_from = RECOMMENDERS[recommender].models
        self._learner = Learner(tracks, [kind for kind in MODELS if kind.name in served_from])
        self._learn_until_ms = learn_until_ms
        factory = RecommenderFactory()
        self._models = models = MemoryModels(factory)
        self._top: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._recommender = recommender
        sources = RecommenderInputs(
            top=lambda: self._top,
            neighbours=lambda: lists.get(NEIGHBOURS, NO_LISTS),
            user_lists=lambda: lists.get(USER_LISTS, NO_LISTS),
            factors=lambda: models.factors,
            graph=lambda: models.graph,
            next_track=lambda: models.next_track,
            policy_results=self._state.policy_results,
            clock=lambda: self._folded / LISTENS_PER_S,
        )
        self._recommenders = {one.name: one for one in factory.make(Catalogue(tracks.values()), sources)}
        self._answered_by: dict[int, tuple[str, str | None]] = {}
        self._folded = 0
        self._top_at = 0
        self.answered = 0
        self.serving_s = 0.0

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        """Fold the listens, learn from them, and answer their listeners."""
        listens = self._take(heard)
        requests = [
            RecommendationRequest(
                one.event_id, one.user, one.session_id, one.position, one.track, one.fraction, one.timestamp_ms, 0
            )
            for one in listens
        ]
        tracks = [self._answer(requests[at : at + BATCH]) for at in range(0, len(requests), BATCH)]
        return np.concatenate(tracks)

    def finish(self, heard: FinishedListens) -> None:
        """Fold the last listens of sessions."""
        self._take(heard)

    def _answer(self, requests: list[RecommendationRequest]) -> NDArray[np.int64]:
        states, likes = self._state.users_and_likes([request.user for request in requests])
        began = time.process_time()
        batch = Batch.of(requests, states, likes)
        answered = answer(batch, [self._recommender] * len(requests), self._recommenders)
        self.serving_s += time.process_time() - began
        self.answered += len(requests)
        for request, by, policy in zip(requests, answered.recommenders, answered.policies, strict=True):
            self._answered_by[request.user] = by, policy
        return answered.tracks

    def _take(self, heard: FinishedListens) -> list[Listen]:
        listens = [self._listen(*row) for row in _rows_of(heard)]
        records = list(enumerate(listens, self._folded))
        first, self._folded = self._folded, self._folded + len(records)
        self._state.fold(records)
        if self._learn_until_ms is None or listens[0].timestamp_ms < self._learn_until_ms:
            batch = training_batch_of("bench", 0, first, self._folded, records)
            self._learner.fold(batch, listens_of(batch, b""))
            for model in self._learner.take_models():
                self._models.serve(model)
        if self._folded - self._top_at >= TOP_EVERY_LISTENS:
            self._top, self._top_at = self._state.top_tracks(TOP), self._folded
        return listens

    def _listen(
        self, user: int, ordinal: int, position: int, track: int, fraction: float, time_ms: int, ended: bool
    ) -> Listen:
        session = f"{user}-{ordinal}"
        by, policy = self._answered_by.get(user, ("", None)) if position else ("", None)
        return Listen(
            f"{session}-{position}", user, track, fraction, time_ms, session, position, ended,
            by or None, {}, None, None, policy,
        )  # fmt: skip


def _rows_of(heard: FinishedListens) -> list[tuple[int, int, int, int, float, int, bool]]:
    """Return user, ordinal, position, track, fraction, time in ms, and whether the session ended, of each listen."""
    columns = heard.users, heard.ordinals, heard.positions, heard.tracks, heard.fractions, heard.time_ms, heard.ended
    return list(zip(*(column.tolist() for column in columns), strict=True))


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of a run; every run with the same options has the same sessions in the same order.

    `times` and `tracks` are the sums of fractions and the numbers of listens of the sessions, `ended_ms` the event
    times of their last listens, shape (sessions,). `us_per_recommendation` is CPU time, 0 for a yardstick; `coverage`
    the share of the catalogue that was recommended; `repeats` the share of recommendations that the session had heard.
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
        """Return the run without its first sessions; coverage, repeats and cost remain those of the whole run."""
        left = {name: getattr(self, name)[sessions:] for name in ("users", "times", "tracks", "ended_ms")}
        return replace(self, **left)


class _Sessions:
    """Aggregates listens to sessions: `over` has user, ordinal, time, number of listens and end of each."""

    def __init__(self, tracks: int) -> None:
        self._heard: dict[int, list[int]] = {}
        self._time: dict[int, float] = {}
        self._recommended = np.zeros(tracks, dtype=bool)
        self._repeats = self._recommendations = 0
        self.over: list[tuple[int, int, float, int, int]] = []

    def take(self, heard: FinishedListens) -> None:
        for user, ordinal, position, track, fraction, at_ms, ended in _rows_of(heard):
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


@dataclass(frozen=True, slots=True)
class Task:
    """A recommender or a yardstick on a stored world; models learn until `learn_until_ms` of event time."""

    name: str
    world: str
    options: RunOptions
    learn_until_ms: int | None = None


def measure(
    world: World,
    tracks: Mapping[int, Track],
    name: str,
    options: RunOptions,
    lists: Mapping[str, Lists],
    learn_until_ms: int | None = None,
) -> Measured:
    """Run a recommender with what the catalogue tells of the tracks and the lists of `lists_for`, or a yardstick."""
    agent: Agent
    pipeline = None
    if name in YARDSTICKS:
        agent = YARDSTICKS[name](world, options.seed)
    else:
        agent = pipeline = Pipeline(tracks, name, lists, learn_until_ms)
    sessions = _Sessions(len(world.catalogue))
    play_world(world, agent, options, listener=sessions.take)
    users, ordinals, times, counts, ended_ms = np.array(sessions.over, dtype=np.float64).T
    # in the order of `botify.sim.options.schedule_of`
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


def measure_all(home: Path, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Measured]]:
    """Measure in this number of processes, and yield each result when it is complete; the worlds are in `home`."""
    # One thread of linear algebra a process, as in the service; set before the processes load numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context) as pool:
        # the last in the registry take longest; started first, they leave no process idle at the end
        running = {pool.submit(_measure, home, task): task for task in reversed(tasks)}
        for done in as_completed(running):
            yield running[done], done.result()


def _measure(home: Path, task: Task) -> Measured:
    world = find_world(home, task.world)
    tracks = {track.track: track for track in tracks_of(world.catalogue)}
    return measure(world, tracks, task.name, task.options, lists_for(task.name, world), task.learn_until_ms)
