"""Make a world of Botify's own files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from sim.world.config import WorldConfig
from sim.world.generate import draw_durations, draw_embeddings, neighbours_of_interests
from sim.world.model import Catalogue, Listeners, World
from sim.world.reading import TrackTable, UserDefaults, read_array, read_tracks, read_users


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
    catalogue = Catalogue(
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
