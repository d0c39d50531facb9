"""Many measurements, side by side in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.recommenders.measure import Measured, measure
from services.lists.build import build_models
from services.lists.neighbours import ListenColumns
from services.recommender.lists import Lists, lists_of
from services.recommender.registry import RECOMMENDERS
from sim.agents import DummyAgent
from sim.loop.kafka import tracks_of
from sim.options import RunOptions
from sim.play import play_world
from sim.simulation import FinishedListens
from sim.world import World, WorldConfig, open_world

LISTS_SEED = 0x6C697374
"""Of the sessions that the batch job learns from: none of those that are measured."""
LISTS_SESSIONS = 5
"""Of each listener; with fewer, a track has hardly more neighbours than one session had."""
NEIGHBOURS, PER_USER = 50, 50


@dataclass(frozen=True, slots=True)
class Task:
    """A recommender on a world.

    Attributes
    ----------
    name : str
    world : WorldConfig
    options : RunOptions
    learn_until_ms : int or None
        Event time from which on its models stay as they are.
    """

    name: str
    world: WorldConfig
    options: RunOptions
    learn_until_ms: int | None = None


def measure_all(home: Path, tasks: Sequence[Task], jobs: int) -> Iterator[tuple[Task, Measured]]:
    """Measure, and return each result as it comes.

    Parameters
    ----------
    home : Path
        Where worlds are kept.
    tasks : sequence of Task
    jobs : int
        Processes.
    """
    for config in {task.world for task in tasks}:
        open_world(home, config)  # generated once, not by each process
    # One thread of linear algebra a process, as in the service; set before the processes load numpy.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(tasks)), context) as pool:
        # the last of the roster take longest; begun first, they leave no process idle at the end
        running = {pool.submit(_measure, home, task): task for task in reversed(tasks)}
        for done in as_completed(running):
            yield running[done], done.result()


def _measure(home: Path, task: Task) -> Measured:
    world = open_world(home, task.world)
    tracks = {track.track: track for track in tracks_of(world.catalogue)}
    lists = lists_from_random_listens(world) if needs_lists(task.name) else {}
    return measure(world, tracks, task.name, task.options, lists, task.learn_until_ms)


def needs_lists(name: str) -> bool:
    """Say whether a recommender, or the oracle, answers from what a batch job made."""
    return name in RECOMMENDERS and RECOMMENDERS[name].needs_lists


def lists_from_random_listens(world: World) -> dict[str, Lists]:
    """Run the batch job on sessions of random recommendations: a log of before there was anything to learn from."""
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
