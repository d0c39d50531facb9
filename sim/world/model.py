"""A world in memory: typed arrays, checked when they were read, trusted afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The tracks; the id of a track is its row.

    Attributes
    ----------
    embeddings : ndarray of float32, shape (tracks, dimensions)
        Hidden from recommenders.
    artist_of, genre_of : ndarray of int32, shape (tracks,)
        Index into `artists` and `genres`; a genre of -1 is unknown.
    duration_ms : ndarray of int32, shape (tracks,)
    artists, genres : tuple of str
    albums : tuple of str or None, titles : tuple of str
        One for each track.
    """

    embeddings: NDArray[np.float32]
    artist_of: NDArray[np.int32]
    genre_of: NDArray[np.int32]
    duration_ms: NDArray[np.int32]
    artists: tuple[str, ...]
    genres: tuple[str, ...]
    albums: tuple[str | None, ...]
    titles: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.titles)

    @property
    def dimensions(self) -> int:
        """Width of the embeddings."""
        return int(self.embeddings.shape[1])


@dataclass(frozen=True, slots=True)
class Listeners:
    """The listeners; the id of a listener is the row. All of it is hidden from recommenders.

    Attributes
    ----------
    interests : ndarray of int32, shape (users, interests)
        Tracks.
    neighbours : ndarray of int32, shape (users, interests, most)
        The tracks nearest to each interest by inner product, nearest first.
    interest_neighbours : ndarray of int32, shape (users,)
        How many of `neighbours` a session may start at.
    consume_bias, consume_sharpness, artist_discount_gamma : ndarray of float64, shape (users,)
    session_budget : ndarray of int32, shape (users,)
    """

    interests: NDArray[np.int32]
    neighbours: NDArray[np.int32]
    interest_neighbours: NDArray[np.int32]
    consume_bias: NDArray[np.float64]
    consume_sharpness: NDArray[np.float64]
    artist_discount_gamma: NDArray[np.float64]
    session_budget: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.interests)


@dataclass(frozen=True, slots=True)
class World:
    """A catalogue, its listeners, and the hash that names them.

    Attributes
    ----------
    name : str
        First hexadecimal digits of the hash of what made the world.
    about : dict
        The settings it was generated with, or the files it was imported from.
    """

    name: str
    catalogue: Catalogue
    listeners: Listeners
    about: dict[str, Any]
