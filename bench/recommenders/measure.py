"""One recommender, one world of its own, everybody on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.recommenders.oracle import Oracle
from bench.recommenders.pipeline import Pipeline, rows_of
from schemas.events import Track
from schemas.keyed_random import mix
from services.recommender.catalogue import Catalogue
from services.recommender.lists import Lists
from sim.agents.agent import Agent
from sim.options import RunOptions
from sim.play import play_world
from sim.progress import Progress
from sim.simulation import Listens
from sim.world.model import World

ORACLE = "oracle"


@dataclass(frozen=True, slots=True)
class Measured:
    """What a run came to.

    Attributes
    ----------
    name : str
    users : ndarray of int64, shape (sessions,)
        Whose session: the same sessions in every run of these options, in the order in which they are dealt.
    times, tracks : ndarray of float64, shape (sessions,)
        Sum of fractions and number of listens.
    ended_ms : ndarray of int64, shape (sessions,)
        Event time of the last listen.
    us_per_recommendation : float
        CPU time; 0 for the oracle, which does not serve.
    coverage : float
        Share of the catalogue that was recommended.
    repeats : float
        Share of recommendations that the session had had.
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
        """Return the run without the sessions that were dealt first; the figures of all of it stay."""
        left = {name: getattr(self, name)[sessions:] for name in ("users", "times", "tracks", "ended_ms")}
        return replace(self, **left)


class _Sessions:
    """Adds up sessions as their listens come."""

    def __init__(self, tracks: int) -> None:
        self._heard: dict[int, list[int]] = {}
        self._time: dict[int, float] = {}
        self._recommended = np.zeros(tracks, dtype=bool)
        self._repeats = self._recommendations = 0
        self.over: list[tuple[int, int, float, int, int]] = []

    def take(self, heard: Listens) -> None:
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


def measure(
    world: World,
    tracks: Mapping[int, Track],
    name: str,
    options: RunOptions,
    lists: Mapping[str, Lists],
    learn_until_ms: int | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
) -> Measured:
    """Run a recommender, or the oracle.

    Parameters
    ----------
    options : RunOptions
        The same for all.
    lists : mapping of name to Lists
        What a batch job made.
    learn_until_ms : int, optional
        Event time from which on its models stay as they are.
    """
    agent: Agent
    pipeline = None
    if name == ORACLE:
        agent = Oracle(world, options.seed)
    else:
        agent = pipeline = Pipeline(tracks, Catalogue(tracks.values()), name, lists, learn_until_ms)
    sessions = _Sessions(len(world.catalogue))
    play_world(world, agent, options, progress, sessions.take)
    users, ordinals, times, counts, ended_ms = np.array(sessions.over, dtype=np.float64).T
    # as `sim.setup.schedule_of` deals them
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
