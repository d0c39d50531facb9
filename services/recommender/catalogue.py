"""The catalogue as arrays."""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track
from botify.schemas.sketches import Words, words_of
from botify.schemas.track_columns import TrackColumns, labels_of, numbers_of
from botify.services.recommender.protocol import Ints

Integers = NDArray[np.integer[Any]]
Numbers = NDArray[np.int32]  # what every track has one of: half as long as numpy's own integers
_SPARSE = 8  # ids may range over this many times the number of tracks before a lookup table is too large
T = TypeVar("T", bound=Hashable)

CATALOGUE = "catalogue"


class LabelValues(NamedTuple):
    """The values of one label (see `botify.schemas.track_columns`), ascending, and which of them each row has."""

    values: Ints
    number_of: Numbers


class Catalogue:
    """Tracks in rows, ordered by track id; artists as row ranges.

    Of each row: `tracks` is the id, `artist_of` and `genre_of` are numbers of `artists` and `genres` (None for no
    genre). `labels` are those of `LABELS` but the artist. `by_artist` has the rows grouped by artist: those of one
    begin at `artist_start` and are `artist_size`. `sketches` are those of content vectors, shape (rows, 2), with zeros
    for a track without one; None if no track has one.

    Examples
    --------
    >>> catalogue = Catalogue([Track(7, "a", None, None, "x"), Track(3, "b", None, None, "y")])
    >>> catalogue.rows_of(np.array([7, 3, 5])).tolist()
    [1, 0, -1]
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        ordered = sorted(tracks, key=lambda track: track.track)
        self._fill(
            np.array([track.track for track in ordered], dtype=np.int64),
            _numbered([track.artist for track in ordered]),
            _numbered([track.genre for track in ordered]),
            labels_of(ordered).T[1:],
            words_of([track.sketch for track in ordered]),
        )

    @classmethod
    def of_columns(cls, columns: TrackColumns) -> Self:
        """Return the catalogue of columns, without the tracks that were deleted; no track becomes an object.

        Examples
        --------
        >>> from botify.schemas.track_columns import EMPTY
        >>> tracks = [Track(7, "a", None, None, "x"), Track(3, "b", None, "jazz", "y")]
        >>> one, other = Catalogue(tracks), Catalogue.of_columns(EMPTY.merged(tracks, [b"", b""]))
        >>> one.artists == other.artists, one.genres == other.genres, (one.artist_of == other.artist_of).tolist()
        (True, True, [True, True])
        >>> [label.values[label.number_of].tolist() for label in one.labels] == [
        ...     label.values[label.number_of].tolist() for label in other.labels
        ... ]
        True
        """
        catalogue = cls.__new__(cls)
        kept, genres = ~columns.deleted, numbers_of([*columns.genres(), ""])[columns.genre_of]
        labels = (genres, columns.mood_of, columns.country_of, columns.period_of)  # see `labels_of`
        catalogue._fill(
            columns.ids[kept],
            _renumbered(columns.artists(), columns.artist_of[kept]),
            _renumbered([*columns.genres(), None], columns.genre_of[kept]),  # the number of no genre is -1
            (label[kept] for label in labels),
            columns.sketches[kept].view("<u8").reshape(-1, 2),
        )
        columns.release()
        return catalogue

    def _fill(
        self,
        tracks: Ints,
        artists: tuple[list[str], Numbers],
        genres: tuple[list[str | None], Numbers],
        labels: Iterable[Ints],
        sketches: Words,
    ) -> None:
        self.tracks = tracks
        self.sketches: Words | None = sketches if sketches.any() else None
        self.artists, self.artist_of = artists
        self.genres, self.genre_of = genres
        found = [np.unique(label, return_inverse=True) for label in labels]
        self.labels = [LabelValues(values, number_of.astype(np.int32)) for values, number_of in found]
        self.by_artist: Numbers = np.argsort(self.artist_of, kind="stable").astype(np.int32)
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
            return self._row_of[np.clip(tracks, -1, len(self._row_of) - 1)].astype(np.int64)
        at = np.minimum(np.searchsorted(self.tracks, tracks), len(self.tracks) - 1)
        return np.where(self.tracks[at] == tracks, at, -1)

    @cached_property
    def label(self) -> str:
        """Its version in answers, under `CATALOGUE`: the number of tracks, and a hash of all that is ranked by."""
        arrays: list[NDArray[Any]] = [self.tracks, self.artist_of, self.genre_of]
        arrays += [array for label in self.labels for array in label]
        arrays += [] if self.sketches is None else [self.sketches]
        names = "\0".join(self.artists) + "\0\0" + "\0".join(genre or "" for genre in self.genres)
        digest = hashlib.blake2b(names.encode("utf-8", "surrogatepass"), digest_size=8)
        for array in arrays:
            digest.update(array.tobytes())
        return f"{len(self)}:{digest.hexdigest()}"

    def tracks_like(self, row: int) -> Ints:
        """Return the ids of all tracks of a row's artist, the row's own included."""
        artist = self.artist_of[row]
        start = self.artist_start[artist]
        return self.tracks[self.by_artist[start : start + self.artist_size[artist]]]


def _lookup(tracks: Ints) -> Numbers | None:
    """Return the row of every id up to the largest, and -1 behind it; None if the ids are too sparse."""
    if not len(tracks) or tracks[0] < 0 or tracks[-1] > _SPARSE * len(tracks):
        return None
    row_of = np.full(int(tracks[-1]) + 2, -1, dtype=np.int32)
    row_of[tracks] = np.arange(len(tracks))
    return row_of


def _renumbered(names: Sequence[T], numbers: Numbers) -> tuple[list[T], Numbers]:
    """Return the names that occur in order of appearance, and the new number of each row."""
    used, first, rows = np.unique(numbers, return_index=True, return_inverse=True)
    order = np.argsort(first)
    new = np.empty(len(order), dtype=np.int32)
    new[order] = np.arange(len(order))
    return [names[number] for number in used[order].tolist()], new[rows]


def _numbered(names: Sequence[T]) -> tuple[list[T], Numbers]:
    numbers: dict[T, int] = {}
    numbered = np.array([numbers.setdefault(name, len(numbers)) for name in names], dtype=np.int32)
    return list(numbers), numbered
