"""Scenes: what sounds alike, what the catalogue tells of it, and the worlds that have names."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from botify.sim.loop.kafka import tracks_of
from botify.sim.world import NAMED, World, WorldConfig, find_world
from botify.sim.world.config import COURSE, DEFAULT
from botify.sim.world.generate import generate
from botify.sim.world.model import Details

SMALL = replace(COURSE, tracks=2_000, artists=400, genres=5, scenes=20, users=50, dimensions=24, clusters=4)


@pytest.fixture(scope="module")
def world() -> World:
    return World("scenes", *generate(replace(SMALL, countries=6)), {})


def test_a_genre_covers_scenes_that_sound_alike_each_for_itself(world: World) -> None:
    catalogue = world.catalogue
    genre_of_scene = np.array([catalogue.genre_of[catalogue.scene_of == scene][0] for scene in range(20)])
    assert (catalogue.genre_of == genre_of_scene[catalogue.scene_of]).all()
    assert np.bincount(genre_of_scene).tolist() == [4] * 5
    products = catalogue.embeddings @ catalogue.embeddings.T
    np.fill_diagonal(products, np.nan)
    same_scene = catalogue.scene_of[:, None] == catalogue.scene_of
    same_genre = (catalogue.genre_of[:, None] == catalogue.genre_of) & ~same_scene
    apart = catalogue.genre_of[:, None] != catalogue.genre_of
    assert np.nanmean(products[same_scene]) > np.nanmean(products[same_genre]) + 3.0
    assert np.nanmean(products[same_genre]) == pytest.approx(np.nanmean(products[apart]), abs=1.0)


def test_the_catalogue_topic_does_not_tell_the_scene(world: World) -> None:
    told = {(track.genre, track.genres) for track in tracks_of(world.catalogue)}
    assert told == {(genre, None) for genre in world.catalogue.genres}
    assert len(told) == 5


def test_the_catalogue_topic_tells_mood_year_and_country_where_the_world_has_them(world: World) -> None:
    told = tuple(Details(track.mood, track.year, track.country) for track in tracks_of(world.catalogue))
    assert told == world.catalogue.details
    without = replace(world.catalogue, details=())
    assert {(track.mood, track.year, track.country) for track in tracks_of(without)} == {(None, None, None)}


def test_worlds_have_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(NAMED) == {"course", "course-2026", "easy"}
    assert NAMED["course"] == DEFAULT
    monkeypatch.setitem(NAMED, "tiny", replace(SMALL, tracks=100, artists=20))
    assert len(find_world(tmp_path, "tiny").catalogue) == 100


@pytest.mark.parametrize(
    ("settings", "scenes"),
    [
        ({}, 300),
        ({"artists": 1_150}, 40),
        ({"artists": 5_750}, 150),
        ({"artists": 60, "genres": 6}, 6),
        ({"scenes": 0}, 0),
    ],
)
def test_the_number_of_scenes_follows_that_of_artists(settings: dict[str, int], scenes: int) -> None:
    assert WorldConfig.from_mapping({"artists": DEFAULT.artists} | settings).scenes == scenes
