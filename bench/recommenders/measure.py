"""Runs of recommenders, and of an oracle, on the same sessions; many side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from bench.recommenders.pipeline import Pipeline, as_rows
from core.keyed_random import mix
from schemas.events import Track
from services.lists.build import build_models
from services.lists.neighbours import ListenColumns
from services.recommender.catalogue import Catalogue
from services.recommender.lists import Lists, lists_of
from services.recommender.registry import RECOMMENDERS
from sim.agents import Agent, DummyAgent
from sim.listeners.botify import BotifyListeners
from sim.loop.kafka import tracks_of
from sim.options import RunOptions
from sim.play import play_world
from sim.simulation import FinishedListens
from sim.world import find_world
from sim.world.model import World

NEAREST = 700
"""Tracks that a session chooses from; more than a session hears."""


class Oracle:
    """An agent that knows each session's hidden interest, and recommends the track that will be heard most.

    Greedy: at every step the track with the highest true fraction, artist discount included. Regret is the distance to
    its result.

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
    """The results of a run.

    Attributes
    ----------
    name : str
    users : ndarray of int64, shape (sessions,)
        User of each session; every run with the same options has the same sessions in the same order.
    times, tracks : ndarray of float64, shape (sessions,)
        Sum of fractions and number of listens.
    ended_ms : ndarray of int64, shape (sessions,)
        Event time of the last listen.
    us_per_recommendation : float
        CPU time; 0 for the oracle.
    coverage : float
        Share of the catalogue that was recommended.
    repeats : float
        Share of recommendations that the session had heard before.
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
    """Aggregates listens to sessions."""

    def __init__(self, tracks: int) -> None:
        self._heard: dict[int, list[int]] = {}
        self._time: dict[int, float] = {}
        self._recommended = np.zeros(tracks, dtype=bool)
        self._repeats = self._recommendations = 0
        self.over: list[tuple[int, int, float, int, int]] = []

    def take(self, heard: FinishedListens) -> None:
        for user, ordinal, position, track, fraction, at_ms, ended in as_rows(heard):
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
) -> Measured:
    """Run a recommender, or the oracle.

    Parameters
    ----------
    options : RunOptions
        The same for all recommenders.
    lists : mapping of name to Lists
        Lists of the batch job.
    learn_until_ms : int, optional
        Event time from which the models no longer learn.
    """
    agent: Agent
    pipeline = None
    if name == ORACLE:
        agent = Oracle(world, options.seed)
    else:
        agent = pipeline = Pipeline(tracks, Catalogue(tracks.values()), name, lists, learn_until_ms)
    sessions = _Sessions(len(world.catalogue))
    play_world(world, agent, options, listener=sessions.take)
    users, ordinals, times, counts, ended_ms = np.array(sessions.over, dtype=np.float64).T
    # in the order of `sim.options.schedule_of`
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


LISTS_SEED = 0x6C697374
"""Seed of the sessions for the batch job, which differ from the measured ones."""
LISTS_SESSIONS = 5
"""Number of these sessions for each listener; fewer give too few neighbours."""
NEIGHBOURS, PER_USER = 50, 50


@dataclass(frozen=True, slots=True)
class Task:
    """A recommender on a world.

    Attributes
    ----------
    name : str
    world : str
        Name of a stored world.
    options : RunOptions
    learn_until_ms : int or None
        Event time from which the models no longer learn.
    """

    name: str
    world: str
    options: RunOptions
    learn_until_ms: int | None = None


def measure_all(home: Path, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Measured]]:
    """Measure in parallel, and yield each result when it is complete.

    Parameters
    ----------
    home : Path
        Folder of the worlds.
    tasks : sequence of Task
    jobs : int
        Number of processes.
    """
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
    lists = lists_from_random_listens(world) if needs_lists(task.name) else {}
    return measure(world, tracks, task.name, task.options, lists, task.learn_until_ms)


def needs_lists(name: str) -> bool:
    """Say whether a recommender needs the lists of the batch job."""
    return name in RECOMMENDERS and RECOMMENDERS[name].needs_lists


def lists_from_random_listens(world: World) -> dict[str, Lists]:
    """Run the batch job on sessions of random recommendations."""
    heard: list[FinishedListens] = []
    agent = DummyAgent(world.catalogue, LISTS_SEED)
    options = RunOptions(sessions=LISTS_SESSIONS * len(world.listeners), seed=LISTS_SEED, start_ms=0)
    play_world(world, agent, options, listener=heard.append)
    columns = (
        np.concatenate([getattr(part, name) for part in heard]).tolist()
        for name in ("users", "ordinals", "positions", "tracks", "fractions", "time_ms")
    )
    users, ordinals, positions, heard_tracks, fractions, times_ms = columns
    sessions = [f"{user}-{ordinal}" for user, ordinal in zip(users, ordinals, strict=True)]
    events = [f"{session}-{position}" for session, position in zip(sessions, positions, strict=True)]
    learned_from = ListenColumns.of(events, sessions, users, heard_tracks, fractions, times_ms)
    return {model.name: lists_of(model) for model in build_models(learned_from, NEIGHBOURS, PER_USER)}
