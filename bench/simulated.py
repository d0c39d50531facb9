"""Runs of recommenders and yardsticks on the same sessions; several at the same time, in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from botify.bench.random_log import lists_for
from botify.bench.yardsticks import YARDSTICKS
from botify.core.keyed_random import mix
from botify.evaluation.agent import Pipeline, rows_of
from botify.schemas.events import Track
from botify.services.recommender.lists import Lists
from botify.sim.agents import Agent
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world import find_world
from botify.sim.world.model import World


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
