"""Scenes: what sounds alike, what the catalogue tells of it, and the worlds that have names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from botify.sim.loop.kafka import tracks_of
from botify.sim.world import NAMED, World, WorldConfig, find_world
from botify.sim.world.config import COURSE, DEFAULT, EASY
from botify.sim.world.generate import generate
from botify.sim.world.model import Details
from botify.sim.world.store import save_world

SMALL = replace(COURSE, tracks=2_000, artists=400, genres=5, scenes=20, users=50, dimensions=24, clusters=4)


@pytest.fixture(scope="module")
def world() -> World:
    return World("scenes", *generate(replace(SMALL, countries=6)), {})


def test_a_genre_covers_scenes_that_sound_alike_each_for_itself(world: World) -> None:
    catalogue = world.catalogue
    genre_of_scene = {int(scene): int(catalogue.genre_of[catalogue.scene_of == scene][0]) for scene in range(20)}
    assert all(
        (catalogue.genre_of[catalogue.scene_of == scene] == genre).all() for scene, genre in genre_of_scene.items()
    )
    assert np.bincount(list(genre_of_scene.values())).tolist() == [4] * 5
    products = catalogue.embeddings @ catalogue.embeddings.T
    np.fill_diagonal(products, np.nan)
    same_scene = catalogue.scene_of[:, None] == catalogue.scene_of
    same_genre = (catalogue.genre_of[:, None] == catalogue.genre_of) & ~same_scene
    apart = catalogue.genre_of[:, None] != catalogue.genre_of
    assert np.nanmean(products[same_scene]) > np.nanmean(products[same_genre]) + 3.0
    assert np.nanmean(products[same_genre]) == pytest.approx(np.nanmean(products[apart]), abs=1.0)


def test_an_artist_is_of_one_scene_and_without_scenes_a_genre_is_one(world: World) -> None:
    catalogue = world.catalogue
    pairs = set(zip(catalogue.artist_of.tolist(), catalogue.scene_of.tolist(), strict=True))
    assert len(pairs) == 400
    easy, _ = generate(replace(EASY, tracks=200, artists=50, genres=5, users=5, dimensions=8))
    np.testing.assert_array_equal(easy.scene_of, easy.genre_of)


def test_the_catalogue_topic_does_not_tell_the_scene(world: World) -> None:
    told = {(track.artist, track.album, track.genre, track.title) for track in tracks_of(world.catalogue)}
    assert {genre for _, _, genre, _ in told} == set(world.catalogue.genres)
    assert len(set(world.catalogue.genres)) == 5
    assert all(track.genres is None for track in tracks_of(world.catalogue))


def test_the_catalogue_topic_tells_mood_year_and_country_where_the_world_has_them(world: World) -> None:
    told = tuple(Details(track.mood, track.year, track.country) for track in tracks_of(world.catalogue))
    assert told == world.catalogue.details
    without = replace(world.catalogue, details=())
    assert {(track.mood, track.year, track.country) for track in tracks_of(without)} == {(None, None, None)}


def test_mood_year_and_country_tell_something_of_the_scene_and_not_all(world: World) -> None:
    catalogue = world.catalogue
    moods, years, countries = (np.array(column) for column in zip(*catalogue.details, strict=True))
    for column in (moods, countries):
        shares = [
            np.unique(column[catalogue.scene_of == scene], return_counts=True)[1].max()
            / (catalogue.scene_of == scene).sum()
            for scene in range(20)
        ]
        assert 0.5 < np.mean(shares) < 0.95
    spread = np.mean([years[catalogue.scene_of == scene].std() for scene in range(20)])
    assert spread < years.std() / 2


def test_scenes_and_details_are_stored(world: World, tmp_path: Path) -> None:
    save_world(tmp_path, world)
    stored = find_world(tmp_path, "scenes").catalogue
    np.testing.assert_array_equal(stored.scene_of, world.catalogue.scene_of)
    assert stored.details == world.catalogue.details
    assert isinstance(stored.details[0], Details)


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
