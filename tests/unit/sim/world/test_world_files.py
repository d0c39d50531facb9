"""Worlds on disk: round trips, and bad files that are refused with file, row and reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from numpy.typing import NDArray

from botify.sim import WorldError
from botify.sim.world import World, WorldConfig, find_world, open_world
from botify.sim.world.model import nearest
from botify.sim.world.reading import import_world
from botify.sim.world.store import save_world, worlds_directory
from tests.unit.sim.conftest import SMALL


class Files:
    """Small files in Botify's format, and how to import them."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.tracks: list[Any] = [{"track": t, "artist": f"artist {t // 3}", "title": f"title {t}"} for t in range(30)]
        self.users: list[Any] = [
            {"user": u, "interests": [u, u + 1, u + 2], "consume_bias": 5.0, "consume_sharpness": 1.0} for u in range(9)
        ]
        self.embeddings: NDArray[Any] | None = None
        self.config = WorldConfig(genres=3, artists=10, dimensions=8)

    def load(self) -> World:
        tracks, users, vectors = (self._directory / name for name in ("tracks.json", "users.json", "vectors.npy"))
        for path, rows in ((tracks, self.tracks), (users, self.users)):
            path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        if self.embeddings is not None:
            np.save(vectors, self.embeddings)
        return import_world(tracks, users, None if self.embeddings is None else vectors, self.config)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def assert_same(one: World, other: World, numbered_anew: tuple[str, ...] = ()) -> None:
    assert (one.name, one.about) == (other.name, other.about)
    for part, of_other in ((one.catalogue, other.catalogue), (one.listeners, other.listeners)):
        for name in part.__slots__:
            if isinstance(getattr(part, name), np.ndarray) and name not in numbered_anew:
                np.testing.assert_array_equal(getattr(part, name), getattr(of_other, name), err_msg=name)


def test_the_same_settings_give_the_same_world_and_it_is_found_again(tmp_path: Path) -> None:
    world = open_world(tmp_path, SMALL)
    (manifest,) = worlds_directory(tmp_path).glob("*/world.json")
    written = manifest.stat().st_mtime_ns
    assert_same(world, open_world(tmp_path, SMALL))
    assert manifest.stat().st_mtime_ns == written
    assert_same(world, open_world(tmp_path / "elsewhere", SMALL))
    assert_same(world, find_world(tmp_path, world.name[:5]))
    assert_same(world, find_world(tmp_path, str(manifest.parent)))
    assert world.name != open_world(tmp_path, replace(SMALL, seed=3)).name


def test_embeddings_without_a_file_fit_the_artists(files: Files) -> None:
    files.config = WorldConfig(genres=3, artists=10, dimensions=64, genre_norm=0.0, artist_norm=3.0, own_norm=0.1)
    vectors = files.load().catalogue.embeddings
    products = vectors @ vectors.T
    by_one_artist = np.kron(np.eye(10), np.ones((3, 3))).astype(bool)
    assert products[by_one_artist].min() > products[~by_one_artist].max()


def test_a_world_on_disk_equals_the_one_in_memory(tmp_path: Path, small_world: World) -> None:
    save_world(tmp_path, small_world)
    loaded = find_world(tmp_path, "small")
    assert_same(small_world, loaded, numbered_anew=("artist_of", "genre_of"))
    catalogue, stored = small_world.catalogue, loaded.catalogue
    assert [stored.artists[a] for a in stored.artist_of] == [catalogue.artists[a] for a in catalogue.artist_of]
    assert [stored.genres[g] for g in stored.genre_of] == [catalogue.genres[g] for g in catalogue.genre_of]
    assert (stored.titles, stored.albums) == (catalogue.titles, catalogue.albums)
    with pytest.raises(WorldError, match=r"'big'.*small"):
        find_world(tmp_path, "big")


def test_botifys_files_make_a_world(files: Files) -> None:
    world = files.load()
    assert (len(world.catalogue), len(world.listeners), len(world.catalogue.artists)) == (30, 9, 10)
    np.testing.assert_array_equal(world.listeners.interests[3], [3, 4, 5])
    assert world.listeners.session_budget.tolist() == [5] * 9
    assert (world.catalogue.genre_of == -1).all()


def test_a_row_may_override_what_holds_for_everybody(files: Files) -> None:
    files.users[2] |= {"interest_neighbours": 4, "session_budget": 9, "artist_discount_gamma": 0.5}
    people = files.load().listeners
    assert (people.interest_neighbours[2], people.session_budget[2], people.artist_discount_gamma[2]) == (4, 9, 0.5)
    assert (people.interest_neighbours[3], people.session_budget[3], people.artist_discount_gamma[3]) == (10, 5, 0.9)


def test_embeddings_of_ones_own_are_taken_as_they_are(files: Files) -> None:
    files.embeddings = np.random.default_rng(1).normal(size=(30, 5)).astype(np.float32)
    world = files.load()
    np.testing.assert_array_equal(world.catalogue.embeddings, files.embeddings)
    brute = np.argsort(-(files.embeddings[4] @ files.embeddings.T))[:10]
    np.testing.assert_array_equal(world.listeners.neighbours[4, 0], brute)


Change = Callable[[Files], None]


def edit(name: str, row: int, text: str | None = None, **changes: object) -> Change:
    """Return what replaces a row of `tracks` or `users`, or some of its fields."""

    def change(files: Files) -> None:
        rows = getattr(files, name)
        rows[row] = {**rows[row], **changes} if text is None else text

    return change


def embed(array: NDArray[Any]) -> Change:
    return lambda files: setattr(files, "embeddings", array)


WITH_NAN = np.zeros((30, 5))
WITH_NAN[17, 2] = np.nan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (embed(np.zeros((29, 5))), r"vectors\.npy: shape 29 × 5 must be 30 × any"),
        (embed(np.zeros(30)), r"vectors\.npy: shape 30 must be 30 × any"),
        (embed(WITH_NAN), r"vectors\.npy, row 17: a value is not a finite number"),
        (embed(np.full((30, 5), "x")), r"vectors\.npy: values of type <U1"),
        (edit("tracks", 4, artist=None), r"tracks\.json, row 5: artist None must be a text"),
        (edit("tracks", 4, artist=""), r"tracks\.json, row 5: artist '' must be a text"),
        (edit("tracks", 4, track=3), r"tracks\.json, row 5: track 3 is in row 4 already"),
        (edit("tracks", 4, track=90), r"tracks\.json, row 5: track 90, but there is no track 4"),
        (edit("tracks", 4, track="4"), r"tracks\.json, row 5: track '4' must be a whole number"),
        (edit("tracks", 4, scene=-1), r"tracks\.json, row 5: scene -1 must be a whole number from 0"),
        (edit("tracks", 0, mood="sad", year=1999, country="FR"), r"tracks\.json, row 2: mood None must be a text"),
        (edit("tracks", 0, mood="sad", year="1999", country="FR"), r"tracks\.json, row 1: year '1999' must be a whole"),
        (edit("tracks", 6, '{"track": 6'), r"tracks\.json, row 7: not JSON"),
        (edit("tracks", 6, "[6]"), r"tracks\.json, row 7: .* must be a JSON object"),
        (edit("users", 2, interests=[1, 30, 2]), r"users\.json, row 3: interest 30 must be a track from 0 to 29"),
        (edit("users", 2, interests=[1, -1, 2]), r"users\.json, row 3: interest -1 must be a track"),
        (edit("users", 2, interests=[]), r"users\.json, row 3: interests \[\] must be a list of tracks"),
        (edit("users", 2, interests=[1, 2]), r"users\.json, row 3: 2 interests, but user 0 has 3"),
        (edit("users", 2, consume_bias=float("nan")), r"users\.json, row 3: consume_bias nan must be a finite number"),
        (edit("users", 2, consume_sharpness=0), r"users\.json, row 3: consume_sharpness 0 must be above 0"),
        (edit("users", 2, artist_discount_gamma=1.5), r"users\.json, row 3: artist_discount_gamma 1\.5 must be in \(0"),
        (edit("users", 2, session_budget=0.5), r"users\.json, row 3: session_budget 0\.5 must be a whole number"),
        (edit("users", 2, interest_neighbours=31), r"users\.json, row 3: interest_neighbours 31 must be .* 1 to 30"),
    ],
)
def test_a_bad_file_is_refused_with_file_row_and_reason(files: Files, change: Change, message: str) -> None:
    change(files)
    with pytest.raises(WorldError, match=message):
        files.load()


@pytest.mark.parametrize(
    ("name", "content"),
    [("world.json", b"{"), ("tracks.json", b""), ("embeddings.npy", b"\x93NUMPY"), ("neighbours.npy", None)],
)
def test_a_damaged_world_is_refused_by_its_file(
    tmp_path: Path, small_world: World, name: str, content: bytes | None
) -> None:
    path = save_world(tmp_path, small_world) / name
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    with pytest.raises(WorldError, match=name):
        find_world(tmp_path, "small")


def test_no_half_written_world_is_left_behind(
    tmp_path: Path, small_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botify.sim.world.store.np.save", Mock(side_effect=OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_world(tmp_path, small_world)
    assert list(worlds_directory(tmp_path).iterdir()) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tracks = 'many'", "tracks = 'many' must be a whole number"),
        ("tracks = 10.5", "tracks = 10.5 must be a whole number"),
        ("tracks = 0", "tracks = 0 must be 1 or more"),
        ("artists = 60000", "artists = 60000 must be at most the number of tracks"),
        ("artist_discount_gamma = 0", r"artist_discount_gamma = 0.0 must be in \(0, 1\]"),
        ("own_norm = inf", "own_norm = inf must be finite"),
        ("bias_max = nan", "bias_max = nan must be finite"),
        ("seed = -1", "seed = -1 must be 0 or more"),
        ("songs = 5", "'songs' is not a setting"),
        ("tracks = ", "world.toml"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "world.toml"
    path.write_text(text)
    with pytest.raises(WorldError, match=message):
        WorldConfig.from_toml(path)


@pytest.mark.parametrize("count", [1, 10, 300])
def test_nearest_tracks_are_exact(count: int) -> None:
    vectors = np.random.default_rng(2).normal(size=(700, 6)).astype(np.float32)
    asked = np.arange(0, 700, 2)
    brute = np.argsort(-(vectors[asked] @ vectors.T), axis=1, kind="stable")[:, :count]
    np.testing.assert_array_equal(nearest(vectors, vectors[asked], count), brute)
