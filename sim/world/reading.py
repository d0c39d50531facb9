"""Read and import worlds in Botify's formats; every value is checked, and an error names file, row and value."""

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.sim import WorldError
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import draw_durations, draw_embeddings, neighbours_of_interests
from botify.sim.world.model import Details, Listeners, World, WorldCatalogue

DEFAULTS: Mapping[str, float] = {
    "interest_neighbours": 10,
    "consume_bias": 5.0,
    "consume_sharpness": 1.0,
    "session_budget": 5,
    "artist_discount_gamma": 0.9,
}
"""Values for users whose rows do not set them; Botify's own defaults."""

Int32s = NDArray[np.int32]


def read_catalogue(path: Path) -> WorldCatalogue:
    """Read a tracks file: one JSON object per line with `track`, `artist`, `title`, and optionally others.

    The others are `album`, `genre`, `scene` (a number), and `mood`, `year` and `country`, which all rows have or none.
    The caller adds vectors and lengths. Raises `WorldError` if a row is invalid, or the ids are not 0 to the number of
    rows - 1, each once.
    """
    rows = _by_id(path, "track")
    artists: dict[str, int] = {}
    genres: dict[str, int] = {}
    artist_of = np.empty(len(rows), np.int32)
    genre_of, scene_of = np.full((2, len(rows)), -1, np.int32)
    albums, titles, details = [], [], []
    is_detailed = any(name in rows[0].values for name in Details._fields)
    for track, row in enumerate(rows):
        artist_of[track] = artists.setdefault(row.text("artist"), len(artists))
        if row.values.get("genre") is not None:
            genre_of[track] = genres.setdefault(row.text("genre"), len(genres))
        if row.values.get("scene") is not None:
            scene_of[track] = row.whole("scene")
        if is_detailed:
            details.append(Details(row.text("mood"), row.whole("year"), row.text("country")))
        albums.append(None if row.values.get("album") is None else row.text("album"))
        titles.append(row.text("title"))
    texts = tuple(artists), tuple(genres), tuple(albums), tuple(titles), tuple(details)
    vectors, durations_ms = np.empty((0, 0), np.float32), np.empty(0, np.int32)
    return WorldCatalogue(vectors, artist_of, genre_of, scene_of, durations_ms, *texts)


def read_listeners(path: Path, tracks: int, defaults: Mapping[str, float] = DEFAULTS) -> Listeners:
    """Read a users file: one JSON object per line with `user`, `interests` and optionally those of `DEFAULTS`.

    The caller adds the neighbours of interests. Raises `WorldError` if a row is invalid or names an unknown track, or
    the ids are not 0 to the number of rows - 1.
    """
    rows = _by_id(path, "user")
    interests = [row.interests(tracks) for row in rows]
    for row, of_listener in zip(rows, interests, strict=True):
        if len(of_listener) != len(interests[0]):
            raise row.error(
                f"{len(of_listener)} interests, but user 0 has {len(interests[0])}; give all listeners the same number"
            )

    def column(name: str, must_be: str, holds: Callable[[float], bool]) -> NDArray[np.float64]:
        return np.array([row.real(name, defaults[name], must_be, holds) for row in rows])

    def whole(name: str, most: float) -> Int32s:
        return column(name, f"a whole number from 1 to {most}", lambda v: v == int(v) and 1 <= v <= most).astype(
            np.int32
        )

    return Listeners(
        interests=np.array(interests, dtype=np.int32),
        neighbours=np.empty((0, 0, 0), np.int32),
        interest_neighbours=whole("interest_neighbours", min(tracks, 1000)),
        consume_bias=column("consume_bias", "a finite number", math.isfinite),
        consume_sharpness=column("consume_sharpness", "above 0 and finite", lambda v: 0 < v < math.inf),
        artist_discount_gamma=column("artist_discount_gamma", "in (0, 1]", lambda v: 0 < v <= 1),
        session_budget=whole("session_budget", 1000),
    )


def read_array(path: Path, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Read an array of finite numbers of a shape (None: any length) from an .npy file, or raise `WorldError`."""
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WorldError(f"{path}: not an .npy array ({error})") from error
    fits = array.ndim == len(shape) and all(want in (None, is_) for want, is_ in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = " × ".join("any" if length is None else str(length) for length in shape)
        raise WorldError(f"{path}: shape {' × '.join(map(str, array.shape))} must be {wanted}")
    if array.dtype.kind not in "iuf":
        raise WorldError(f"{path}: values of type {array.dtype} must be numbers")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        raise WorldError(f"{path}, row {int(finite.argmin())}: a value is not a finite number")
    return array


class _Row(NamedTuple):
    """A JSON object of a file, and its row number from 1."""

    path: Path
    number: int
    values: dict[str, Any]

    def error(self, message: str) -> WorldError:
        return WorldError(f"{self.path}, row {self.number}: {message}")

    def text(self, name: str) -> str:
        value = self.values.get(name)
        if not isinstance(value, str) or not value:
            raise self.error(f"{name} {value!r} must be a text that is not empty")
        return value

    def whole(self, name: str) -> int:
        value = self.values.get(name)
        if type(value) is not int or value < 0:
            raise self.error(f"{name} {value!r} must be a whole number from 0")
        return value

    def interests(self, tracks: int) -> list[int]:
        interests = self.values.get("interests")
        if not isinstance(interests, list) or not interests:
            raise self.error(f"interests {interests!r} must be a list of tracks")
        for track in interests:
            if type(track) is not int or not 0 <= track < tracks:
                raise self.error(f"interest {track!r} must be a track from 0 to {tracks - 1}")
        return interests

    def real(self, name: str, default: float, must_be: str, holds: Callable[[float], bool]) -> float:
        value = self.values.get(name, default)
        is_finite = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not is_finite or not holds(value):
            raise self.error(f"{name} {value!r} must be {must_be}")
        return float(value)


def _by_id(path: Path, name: str) -> list[_Row]:
    """Return the rows in the order of their ids."""
    found: dict[int, _Row] = {}
    for row in _rows(path):
        id_ = row.values.get(name)
        if type(id_) is not int or id_ < 0:
            raise row.error(f"{name} {id_!r} must be a whole number from 0")
        if id_ in found:
            raise row.error(f"{name} {id_} is in row {found[id_].number} already; ids must differ")
        found[id_] = row
    if not found:
        raise WorldError(f"{path}: the file has no rows; give one JSON object per line")
    if (highest := max(found)) != len(found) - 1:
        missing = next(id_ for id_ in range(len(found)) if id_ not in found)
        raise found[highest].error(
            f"{name} {highest}, but there is no {name} {missing}; the ids must be 0 to {len(found) - 1}"
        )
    return [found[id_] for id_ in range(len(found))]


def _rows(path: Path) -> Iterator[_Row]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                row = _Row(path, number, {})
                try:
                    values = json.loads(line)
                except ValueError as error:
                    raise row.error(f"not JSON ({error})") from error
                if not isinstance(values, dict):
                    raise row.error(f"{str(values)[:40]!r} must be a JSON object")
                yield row._replace(values=values)
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path}: cannot be read ({error})") from error


def import_world(tracks_path: Path, users_path: Path, embeddings_path: Path | None, config: WorldConfig) -> World:
    """Import Botify's `tracks.json` and `users.json`, and embeddings (.npy, (tracks, dimensions)) if given.

    Otherwise embeddings are drawn for the tracks' artists and genres; for this only, an artist without a genre in the
    file gets one at random. The lengths of the tracks are drawn too. Raises `WorldError` if a file is invalid; the
    message names the file, the row and the reason.
    """
    vectors, lengths = np.random.default_rng(config.seed).spawn(2)
    catalogue = read_catalogue(tracks_path)
    tracks = len(catalogue)
    if embeddings_path is not None:
        embeddings = read_array(embeddings_path, (tracks, None)).astype(np.float32)
    else:
        embeddings = _draw_embeddings(catalogue, config, vectors)
    catalogue = replace(catalogue, embeddings=embeddings, duration_ms=draw_durations(tracks, lengths))
    defaults = {
        **DEFAULTS,
        "interest_neighbours": min(config.interest_neighbours, tracks),
        "session_budget": config.session_budget,
        "artist_discount_gamma": config.artist_discount_gamma,
    }
    listeners = read_listeners(users_path, tracks, defaults)
    count = int(listeners.interest_neighbours.max())
    listeners = replace(listeners, neighbours=neighbours_of_interests(embeddings, listeners.interests, count))
    files = [path for path in (tracks_path, users_path, embeddings_path) if path is not None]
    digest = hashlib.sha256(repr(sorted(asdict(config).items())).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    about = {"imported": [path.name for path in files], **asdict(config)}
    return World(digest.hexdigest()[:12], catalogue, listeners, about)


def _draw_embeddings(catalogue: WorldCatalogue, config: WorldConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    artist_of, genre_of = catalogue.artist_of, catalogue.genre_of
    # an artist without a genre gets one beyond those of the file
    drawn = genre_of.max() + 1 + rng.integers(config.genres, size=len(catalogue.artists))
    genres = np.where(genre_of >= 0, genre_of, drawn[artist_of]).astype(np.int32)
    scenes_a_genre = max(config.scenes // config.genres, 1)
    scene_of = genres * scenes_a_genre + rng.integers(scenes_a_genre, size=len(catalogue.artists))[artist_of]
    return draw_embeddings(config, artist_of, genres, scene_of.astype(np.int32), rng)
