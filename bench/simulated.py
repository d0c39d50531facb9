"""Runs of recommenders and yardsticks on the same sessions, and the lists that are learned from a random log before."""

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.bench.yardsticks import YARDSTICKS
from botify.core.keyed_random import mix
from botify.core.sql import open_duckdb
from botify.evaluation.agent import Pipeline
from botify.playing import sessions_of
from botify.schemas.events import Track
from botify.services.lists.build import COLUMNS, build_models, find_neighbours, keep_listens, make_user_lists
from botify.services.recommender.lists import Lists, lists_of
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.agents import Agent, DummyAgent
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.world import find_world
from botify.sim.world.model import World

Ints = NDArray[np.int64]

SEED, CARD_SEED = 0x6C697374, 0x6C6F67  # of the log's sessions: of the benchmark, and of the world's card
SESSIONS = 5  # sessions of the benchmark's log for each listener; fewer give too few neighbours
COUNT, PER_USER = 50, 50  # lengths of a track's list and of a listener's, of the batch job
LIKED_MORE = 0.4  # a listen is liked if this much more of it was heard than of the listener's average one


class RandomLog(NamedTuple):
    """Listens of random recommendations, columns of equal length."""

    users: Ints
    ordinals: Ints
    tracks: Ints
    fractions: NDArray[np.float64]
    time_ms: Ints

    @classmethod
    def of(cls, world: World, sessions: int, seed: int) -> "RandomLog":
        options = RunOptions(sessions=sessions, seed=seed, start_ms=0)
        heard = play_listens(world, DummyAgent(world.catalogue, seed), options)
        return cls(*(getattr(heard, name) for name in cls._fields))

    def liked(self) -> "RandomLog":
        """Return the liked listens; their fractions are what was heard more than the listener's average."""
        average = np.bincount(self.users, self.fractions) / np.maximum(np.bincount(self.users), 1)
        more = self.fractions - average[self.users]
        liked = more > LIKED_MORE
        return RandomLog._make(column[liked] for column in self._replace(fractions=more))

    def frame(self, sessions: Ints) -> pd.DataFrame:
        """Return the listens as `botify.services.lists` takes them."""
        columns = np.arange(len(self.users)), sessions, self.users, self.tracks, self.fractions, self.time_ms
        return pd.DataFrame(dict(zip(COLUMNS, columns, strict=True)))

    def neighbours(self) -> pd.DataFrame:
        """Find the tracks that the same listeners heard, by cosine; see `find_neighbours`."""
        with open_duckdb() as engine:
            engine.load("files", self.frame(self.users))
            keep_listens(engine)
            return find_neighbours(engine, COUNT)

    def user_lists(self, found: pd.DataFrame, length: int) -> Lists:
        """Make a list for each listener of these neighbours, as the batch job does."""
        with open_duckdb() as engine:
            engine.load("files", self.frame(self.users))
            engine.load("neighbours", found)
            keep_listens(engine)
            return make_user_lists(engine, length)


def lists_for(name: str, world: World) -> dict[str, Lists]:
    """Return the lists of the batch job, by the names of their models, if a recommender needs them."""
    if name not in RECOMMENDERS or not RECOMMENDERS[name].needs_lists:
        return {}
    log = RandomLog.of(world, SESSIONS * len(world.listeners), SEED)
    heard = log.frame(log.users * (log.ordinals.max() + 1) + log.ordinals)
    return {model.name: lists_of(model) for model in build_models(heard, COUNT, PER_USER)}


@dataclass(frozen=True, slots=True)
class Measured:
    """The results of a run; every run with the same options has the same sessions in the same order.

    Arrays have shape (sessions,): sums of fractions, numbers of listens.
    `us_per_recommendation` is CPU time, `coverage` the share of the catalogue that was recommended, `repeats` the share
    of recommendations that the session had heard.
    """

    users: NDArray[np.int64]
    times: NDArray[np.float64]
    tracks: NDArray[np.float64]
    us_per_recommendation: float
    coverage: float
    repeats: float

    def after(self, sessions: int) -> "Measured":
        """Return the run without its first sessions; coverage, repeats and cost remain those of the whole run."""
        return replace(self, users=self.users[sessions:], times=self.times[sessions:], tracks=self.tracks[sessions:])


@dataclass(frozen=True, slots=True)
class Task:
    """A recommender or a yardstick on a stored world."""

    name: str
    world: str
    options: RunOptions


def measure(
    world: World, tracks: Mapping[int, Track], name: str, options: RunOptions, lists: Mapping[str, Lists]
) -> Measured:
    """Run a recommender with what the catalogue tells of the tracks and the lists of `lists_for`, or a yardstick."""
    agent: Agent
    pipeline = None
    if name in YARDSTICKS:
        agent = YARDSTICKS[name](world, options.seed)
    else:
        agent = pipeline = Pipeline(tracks, name, lists)
    heard = play_listens(world, agent, options)
    recommended, sessions = heard.positions > 0, sessions_of(heard)
    again = pd.DataFrame({"user": heard.users, "session": heard.ordinals, "track": heard.tracks}).duplicated()
    # in the order of `botify.sim.options.schedule_of`
    sessions = sessions.iloc[np.lexsort((mix(options.seed, sessions["user"].to_numpy()), sessions["ordinal"]))]
    return Measured(
        users=sessions["user"].to_numpy(),
        times=sessions["time"].to_numpy(),
        tracks=sessions["tracks"].to_numpy(np.float64),
        us_per_recommendation=pipeline.serving_s / pipeline.answered * 1e6 if pipeline else 0.0,
        coverage=len(np.unique(heard.tracks[recommended])) / len(world.catalogue),
        repeats=float(again[recommended].mean()),
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
    return measure(world, tracks, task.name, task.options, lists_for(task.name, world))
