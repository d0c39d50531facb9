"""Read Botify's files: every row is checked here, where it enters, and an error names the file, the row and why."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.errors import WorldError
from sim.world.config import WorldConfig
from sim.world.generate import draw_durations, draw_embeddings, neighbours_of_interests
from sim.world.model import Listeners, World, WorldCatalogue


@dataclass(frozen=True, slots=True)
class TrackTable:
    """What a tracks file says; see `WorldCatalogue` for the columns."""

    artist_of: NDArray[np.int32]
    genre_of: NDArray[np.int32]
    artists: tuple[str, ...]
    genres: tuple[str, ...]
    albums: tuple[str | None, ...]
    titles: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UserTable:
    """What a users file says; see `Listeners` for the columns."""

    interests: NDArray[np.int32]
    interest_neighbours: NDArray[np.int32]
    consume_bias: NDArray[np.float64]
    consume_sharpness: NDArray[np.float64]
    artist_discount_gamma: NDArray[np.float64]
    session_budget: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class UserDefaults:
    """What holds for a listener whose row does not say otherwise; Botify's own defaults."""

    interest_neighbours: int = 10
    consume_bias: float = 5.0
    consume_sharpness: float = 1.0
    session_budget: int = 5
    artist_discount_gamma: float = 0.9


def read_tracks(path: Path) -> TrackTable:
    """Read a tracks file: a JSON object a line with `track`, `artist`, `title` and perhaps `album` and `genre`.

    Raises
    ------
    WorldError
        A row cannot be used, or the ids are not 0 to the number of rows - 1, each once.
    """
    rows = _by_id(path, "track")
    artists: dict[str, int] = {}
    genres: dict[str, int] = {}
    artist_of, genre_of = np.empty(len(rows), np.int32), np.full(len(rows), -1, np.int32)
    albums, titles = [], []
    for track, (number, row) in enumerate(rows):
        artist = _text(path, number, row, "artist")
        artist_of[track] = artists.setdefault(artist, len(artists))
        if row.get("genre") is not None:
            genre_of[track] = genres.setdefault(_text(path, number, row, "genre"), len(genres))
        albums.append(None if row.get("album") is None else _text(path, number, row, "album"))
        titles.append(_text(path, number, row, "title"))
    return TrackTable(artist_of, genre_of, tuple(artists), tuple(genres), tuple(albums), tuple(titles))


def read_users(path: Path, tracks: int, defaults: UserDefaults = UserDefaults()) -> UserTable:
    """Read a users file: a JSON object a line with `user`, `interests` and perhaps what `UserDefaults` names.

    Raises
    ------
    WorldError
        A row cannot be used, names a track that is not in the catalogue, or the ids are not 0 to rows - 1.
    """
    rows = _by_id(path, "user")
    interests = [_interests(path, number, row, tracks) for number, row in rows]
    for (number, _), of_listener in zip(rows, interests, strict=True):
        if len(of_listener) != len(interests[0]):
            raise WorldError(
                f"{path}, row {number}: {len(of_listener)} interests, but user 0 has {len(interests[0])}; "
                "all listeners must have as many"
            )

    def column(name: str, must_be: str, holds: Callable[[float], bool]) -> NDArray[np.float64]:
        default = getattr(defaults, name)
        return np.array([_number(path, number, row, name, default, must_be, holds) for number, row in rows])

    def whole(name: str, most: float) -> NDArray[np.int32]:
        return column(name, f"a whole number from 1 to {most}", lambda v: v == int(v) and 1 <= v <= most).astype(
            np.int32
        )

    return UserTable(
        interests=np.array(interests, dtype=np.int32),
        interest_neighbours=whole("interest_neighbours", min(tracks, 1000)),
        consume_bias=column("consume_bias", "a finite number", math.isfinite),
        consume_sharpness=column("consume_sharpness", "above 0 and finite", lambda v: 0 < v < math.inf),
        artist_discount_gamma=column("artist_discount_gamma", "in (0, 1]", lambda v: 0 < v <= 1),
        session_budget=whole("session_budget", 1000),
    )


def read_array(path: Path, shape: tuple[int | None, ...]) -> NDArray[Any]:
    """Read an array of finite numbers from an .npy file.

    Parameters
    ----------
    path : Path
    shape : tuple
        What it must be; None leaves a length open.

    Raises
    ------
    WorldError
        It cannot be read, has another shape or holds something that is not a finite number.
    """
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise WorldError(f"{path}: not an array ({error})") from error
    fits = array.ndim == len(shape) and all(want in (None, is_) for want, is_ in zip(shape, array.shape, strict=True))
    if not fits:
        wanted = " × ".join("any" if length is None else str(length) for length in shape)
        raise WorldError(f"{path}: shape {' × '.join(map(str, array.shape))}, but {wanted} is needed")
    if array.dtype.kind not in "iuf":
        raise WorldError(f"{path}: values of type {array.dtype}, but numbers are needed")
    finite = np.isfinite(array).reshape(len(array), -1).all(axis=1)
    if not finite.all():
        raise WorldError(f"{path}, row {int(finite.argmin())}: a value is not a finite number")
    return array


def _by_id(path: Path, name: str) -> list[tuple[int, dict[str, Any]]]:
    """Return (row number, row) in the order of the ids."""
    found: dict[int, tuple[int, dict[str, Any]]] = {}
    for number, row in _rows(path):
        id_ = row.get(name)
        if type(id_) is not int or id_ < 0:
            raise WorldError(f"{path}, row {number}: {name} {id_!r} is not a whole number from 0")
        if id_ in found:
            raise WorldError(f"{path}, row {number}: {name} {id_} was in row {found[id_][0]} already")
        found[id_] = (number, row)
    if not found:
        raise WorldError(f"{path}: no rows")
    if (highest := max(found)) != len(found) - 1:
        missing = next(id_ for id_ in range(len(found)) if id_ not in found)
        raise WorldError(
            f"{path}, row {found[highest][0]}: {name} {highest}, but there is no {name} {missing}; "
            f"the ids must be 0 to {len(found) - 1}"
        )
    return [found[id_] for id_ in range(len(found))]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise WorldError(f"{path}, row {number}: not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise WorldError(f"{path}, row {number}: not a JSON object")
                yield number, row
    except (OSError, UnicodeDecodeError) as error:
        raise WorldError(f"{path}: cannot be read ({error})") from error


def _text(path: Path, number: int, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise WorldError(f"{path}, row {number}: {name} {value!r} is unknown; a text is needed")
    return value


def _interests(path: Path, number: int, row: dict[str, Any], tracks: int) -> list[int]:
    interests = row.get("interests")
    if not isinstance(interests, list) or not interests:
        raise WorldError(f"{path}, row {number}: interests {interests!r} is not a list of tracks")
    for track in interests:
        if type(track) is not int or not 0 <= track < tracks:
            raise WorldError(f"{path}, row {number}: interest {track!r} is not a track; there are 0 to {tracks - 1}")
    return interests


def _number(
    path: Path,
    number: int,
    row: dict[str, Any],
    name: str,
    default: float,
    must_be: str,
    holds: Callable[[float], bool],
) -> float:
    value = row.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not holds(value):
        raise WorldError(f"{path}, row {number}: {name} {value!r} must be {must_be}")
    return value


def import_world(tracks_path: Path, users_path: Path, embeddings_path: Path | None, config: WorldConfig) -> World:
    """Read Botify's `tracks.json` and `users.json`, and its embeddings where there are any.

    Without embeddings they are drawn to fit the tracks' artists and, where the file has them, genres; an artist without
    a genre in the file is given one for the drawing only. How long the tracks are is drawn too.

    Parameters
    ----------
    tracks_path, users_path : Path
        A JSON object a line.
    embeddings_path : Path | None
        An .npy file of shape (tracks, dimensions).
    config : WorldConfig
        Its seed, the lengths of the embeddings' parts, and what holds for users whose rows do not say otherwise.

    Raises
    ------
    WorldError
        A file cannot be used; the message names the file, the row and why.
    """
    tracks = read_tracks(tracks_path)
    count = len(tracks.titles)
    users = read_users(
        users_path,
        count,
        UserDefaults(
            interest_neighbours=min(config.interest_neighbours, count),
            session_budget=config.session_budget,
            artist_discount_gamma=config.artist_discount_gamma,
        ),
    )
    vectors, lengths = np.random.default_rng(config.seed).spawn(2)
    if embeddings_path is None:
        embeddings = draw_embeddings(config, tracks.artist_of, _genres_to_draw(tracks, config, vectors), vectors)
    else:
        embeddings = read_array(embeddings_path, (count, None)).astype(np.float32)
    catalogue = WorldCatalogue(
        embeddings=embeddings,
        artist_of=tracks.artist_of,
        genre_of=tracks.genre_of,
        duration_ms=draw_durations(count, lengths),
        artists=tracks.artists,
        genres=tracks.genres,
        albums=tracks.albums,
        titles=tracks.titles,
    )
    listeners = Listeners(
        interests=users.interests,
        neighbours=neighbours_of_interests(embeddings, users.interests, int(users.interest_neighbours.max())),
        interest_neighbours=users.interest_neighbours,
        consume_bias=users.consume_bias,
        consume_sharpness=users.consume_sharpness,
        artist_discount_gamma=users.artist_discount_gamma,
        session_budget=users.session_budget,
    )
    files = [path for path in (tracks_path, users_path, embeddings_path) if path is not None]
    about = {"imported": [path.name for path in files], **config.to_mapping()}
    return World(_name_of(files, config), catalogue, listeners, about)


def _genres_to_draw(tracks: TrackTable, config: WorldConfig, rng: np.random.Generator) -> np.ndarray:
    """Return each track's genre, and for tracks without one a genre that is drawn for their artist."""
    drawn = len(tracks.genres) + rng.integers(config.genres, size=len(tracks.artists))
    return np.where(tracks.genre_of >= 0, tracks.genre_of, drawn[tracks.artist_of]).astype(np.int32)


def _name_of(files: list[Path], config: WorldConfig) -> str:
    digest = hashlib.sha256(repr(sorted(config.to_mapping().items())).encode())
    for path in files:
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]
