"""The default world gives the table that Botify's course prints."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from sim.agents import Agent, DummyAgent
from sim.options import RunOptions
from sim.play import play_world
from sim.simulation import FinishedListens
from sim.world.model import World, WorldCatalogue

SESSIONS = 20_000
WITHIN = 0.10


class Sticky:
    """Any track by the artist of the last one."""

    def __init__(self, catalogue: WorldCatalogue, seed: int) -> None:
        self.artist_of = catalogue.artist_of
        self.in_order = np.argsort(self.artist_of, kind="stable")
        self.sizes = np.bincount(self.artist_of)
        self.first = np.cumsum(self.sizes) - self.sizes
        self.rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        artists = self.artist_of[heard.tracks]
        tracks: NDArray[np.int64] = self.in_order[self.first[artists] + self.rng.integers(self.sizes[artists])]
        return tracks

    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


class TopPop:
    """Any of the hundred tracks that were heard most while a random agent played."""

    def __init__(self, time_of_track: NDArray[np.float64], seed: int) -> None:
        self.top = np.argsort(-time_of_track)[:100]
        self.rng = np.random.default_rng(seed)

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        return self.rng.choice(self.top, size=len(heard))

    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_random_sticky_artist_and_toppop_come_out_as_in_the_course(default_world: World, seed: int) -> None:
    catalogue = default_world.catalogue
    time_of_track = np.zeros(len(catalogue))

    def note(heard: FinishedListens) -> None:
        np.add.at(time_of_track, heard.tracks, heard.fractions)

    def means(agent: Agent, listener: Callable[[FinishedListens], None] = lambda _: None) -> tuple[float, float]:
        options = RunOptions(sessions=SESSIONS, seed=seed, start_ms=0)
        done = play_world(default_world, agent, options, listener=listener)
        assert done.sessions == SESSIONS
        return done.listens / SESSIONS, done.time / SESSIONS

    tracks, time = means(DummyAgent(catalogue, seed), note)
    sticky_tracks, sticky_time = means(Sticky(catalogue, seed))
    _, top_time = means(TopPop(time_of_track, seed))

    assert tracks == pytest.approx(7.05, rel=WITHIN)
    assert time == pytest.approx(2.05, rel=WITHIN)
    assert sticky_tracks / tracks - 1 == pytest.approx(0.134, rel=WITHIN)
    assert sticky_time / time - 1 == pytest.approx(0.456, rel=WITHIN)
    assert 0.0 < top_time / time - 1 < 0.08  # the course: +3.5 %, not significant
