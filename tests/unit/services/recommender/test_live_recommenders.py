"""Recommenders follow the catalogue: what was deleted is not answered two seconds later, however long they take."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.track_table import TrackTable
from botify.services.recommender import dispatch
from botify.services.recommender.baselines import RandomTracks, TopPop
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import LiveRecommenders
from tests.unit.services.recommender.recommending import batch_of

CODEC = Codec()
TRACKS = [Track(number, "a", None, None, "x") for number in range(10)]


class World:
    """A clock, the catalogue's topic, and recommenders that take their time."""

    def __init__(self, build_s: float = 0.0) -> None:
        self.now_s, self.build_s = 0.0, build_s
        self.tracks = TrackTable(CODEC)
        self.arriving, self.built, self.is_broken = list(TRACKS), 0, False

    def take_arrived(self) -> int:
        some, self.arriving = self.arriving, []
        self.tracks.add(some, [CODEC.encode(track) for track in some])
        return len(some)

    refresh = take_arrived

    def build(self, catalogue: Catalogue) -> list[Any]:
        self.built += 1
        self.now_s += self.build_s
        if self.is_broken:
            raise ValueError("broken")
        return [TopPop(lambda: np.array([3, 4])), RandomTracks(catalogue)]

    def answers(self, live: LiveRecommenders) -> set[int]:
        return set(live.answer(batch_of(200, 1, 1.0), ["toppop"] * 200).tracks.tolist())


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    made = World(getattr(request, "param", 0.0))
    monkeypatch.setattr(dispatch.time, "monotonic", lambda: made.now_s)
    return made


@pytest.mark.parametrize("world", [0.0, 5.0], indirect=True)
def test_a_deleted_track_is_not_answered_two_seconds_later(world: World) -> None:
    live = LiveRecommenders(world, world.build)  # type: ignore[arg-type]
    world.now_s += 2
    assert world.answers(live) == {3, 4}
    world.arriving = [TRACKS[3]._replace(deleted=True), Track(99, "a", None, None, "new")]
    world.now_s += 2
    assert 3 not in world.answers(live)
    world.arriving = [TRACKS[3]]  # is put again
    world.now_s += 2
    assert 3 in world.answers(live)


@pytest.mark.parametrize("world", [1.0], indirect=True)
def test_a_large_catalogue_that_keeps_changing_is_rebuilt_in_a_tenth_of_the_time(world: World) -> None:
    live = LiveRecommenders(world, world.build)  # type: ignore[arg-type]
    for number in range(100, 200):
        world.now_s += 1.01
        world.arriving = [Track(number, "a", None, None, "new")]
        world.answers(live)
    assert 10 <= world.built <= 13
    assert len(live.catalogue) > 90
    world.arriving = [Track(200, "a", None, None, "asked for")]
    world.now_s += 0.3
    before, missing = world.built, batch_of(1, 200, 1.0)
    live.answer(missing, ["random"])
    assert world.built == before + 1, "a track that is missed is served at once"


def test_a_catalogue_for_which_nothing_can_be_built_is_tried_again_later(world: World) -> None:
    live = LiveRecommenders(world, world.build)  # type: ignore[arg-type]
    world.is_broken, world.arriving = True, [Track(100, "a", None, None, "new")]
    for _ in range(19):
        world.now_s += 1.01
        assert world.answers(live) == {3, 4}
    assert world.built == 3
    world.is_broken = False
    world.now_s += 10
    world.answers(live)
    assert len(live.catalogue) == 11
