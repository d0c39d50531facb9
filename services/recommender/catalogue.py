"""The catalogue as arrays."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from schemas.events import Track
from streams.learner.models.labels import labels_of

Ints = NDArray[np.int64]
_SPARSE = 8
"""Ids may range over this many times the number of tracks before a lookup table is too large."""
T = TypeVar("T", bound=Hashable)


class Catalogue:
    """Tracks in rows, ordered by track id; artists as row ranges.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        Track id of each row, ascending.
    artist_of : ndarray of int64, shape (n,)
        Artist number of each row.
    genre_of : ndarray of int64, shape (n,)
        Genre number of each row; tracks without one share a number.
    artists, genres : list
        Names, by number.
    labels : ndarray of int64, shape (n, len(LABELS))
        See `streams.learner.models.labels`.
    by_artist : ndarray of int64, shape (n,)
        Rows, grouped by artist.
    artist_start, artist_size : ndarray of int64, shape (number of artists,)
        Where an artist's rows begin in `by_artist`, and how many there are.

    Examples
    --------
    >>> catalogue = Catalogue([Track(7, "a", None, None, "x"), Track(3, "b", None, None, "y")])
    >>> catalogue.rows_of(np.array([7, 3, 5])).tolist()
    [1, 0, -1]
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        ordered = sorted(tracks, key=lambda track: track.track)
        self.tracks: Ints = np.array([track.track for track in ordered], dtype=np.int64)
        self.artists, self.artist_of = _numbered([track.artist for track in ordered])
        self.genres, self.genre_of = _numbered([track.genre for track in ordered])
        self.labels: Ints = labels_of(ordered)
        self.by_artist: Ints = np.argsort(self.artist_of, kind="stable")
        self.artist_size: Ints = np.bincount(self.artist_of, minlength=len(self.artists)).astype(np.int64)
        self.artist_start: Ints = np.concatenate([[0], np.cumsum(self.artist_size)[:-1]]).astype(np.int64)

        self._row_of = _lookup(self.tracks)

    def __len__(self) -> int:
        return len(self.tracks)

    def rows_of(self, tracks: Ints) -> Ints:
        """Return the row of each track id, -1 for one that is not in the catalogue."""
        if not len(self.tracks):
            return np.full(len(tracks), -1, dtype=np.int64)
        if self._row_of is not None:
            rows: Ints = self._row_of[np.clip(tracks, -1, len(self._row_of) - 1)]
            return rows
        at = np.minimum(np.searchsorted(self.tracks, tracks), len(self.tracks) - 1)
        return np.where(self.tracks[at] == tracks, at, -1)

    def tracks_like(self, row: int) -> Ints:
        """Return the ids of all tracks of a row's artist, the row's own included."""
        artist = self.artist_of[row]
        start = self.artist_start[artist]
        return self.tracks[self.by_artist[start : start + self.artist_size[artist]]]


def _lookup(tracks: Ints) -> Ints | None:
    """Return the row of every id up to the largest, and -1 behind it; None if the ids are too sparse.

    Ids are numbers from 0 in Botify's own data, and looking one up costs a tenth of a binary search.
    """
    if not len(tracks) or tracks[0] < 0 or tracks[-1] > _SPARSE * len(tracks):
        return None
    row_of = np.full(int(tracks[-1]) + 2, -1, dtype=np.int64)
    row_of[tracks] = np.arange(len(tracks))
    return row_of


def _numbered(names: Sequence[T]) -> tuple[list[T], Ints]:
    """Return the distinct names in order of appearance, and the number of each name given."""
    numbers: dict[T, int] = {}
    numbered = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int64)
    return list(numbers), numbered
