"""Which tracks of the catalogue a slate may have: `field:value` filters as arrays of rows.

Values of one field are alternatives, and every field must hold: `genre:rock`, `genre:pop`, `year:1999` are the
tracks of 1999 that are rock or pop. Case does not matter. The rows of a filter are kept.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Track

FIELDS = ("artist", "album", "genre", "mood", "year", "country")
KEPT, KEPT_BYTES = 256, 32 * 1024 * 1024


class _Field(NamedTuple):
    numbers: dict[str, int]
    rows: NDArray[np.int32]
    values: NDArray[np.int32]


class Filters:
    """Rows by filter; a field is read from all tracks when it is first asked for, and then kept as two numbers a value.

    `tracks` returns the tracks in the order of the catalogue's rows.

    Examples
    --------
    >>> tracks = [Track(3, "a", None, "rock", "x", genres=["rock", "pop"]), Track(7, "b", None, "pop", "y")]
    >>> filters = Filters(2, lambda: tracks)
    >>> filters.mask(["genre:Pop", "artist:b"]).tolist(), filters.mask(["genre:rock", "genre:pop"]).tolist()
    ([False, True], [True, True])
    """

    def __init__(self, size: int, tracks: Callable[[], Iterable[Track]]) -> None:
        self._size = size
        self._tracks = tracks
        self._fields: dict[str, _Field] = {}
        self._rows = lru_cache(min(KEPT, 1 + KEPT_BYTES // (size + 1)))(self._find)

    def mask(self, filters: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows pass, shape (n,)."""
        allowed = np.ones(self._size, dtype=np.bool_)
        for field, values in by_field(filters).items():
            some = np.zeros(self._size, dtype=np.bool_)
            for value in values:
                some |= self._rows(field, value)
            allowed &= some
        return allowed

    def _find(self, field: str, value: str) -> NDArray[np.bool_]:
        if field not in self._fields:
            self._fields[field] = self._read(field)
        known, found = self._fields[field], np.zeros(self._size, dtype=np.bool_)
        found[known.rows[known.values == known.numbers.get(value, -1)]] = True
        return found

    def _read(self, field: str) -> _Field:
        numbers: dict[str, int] = {}
        rows, values = array("i"), array("i")
        for row, track in enumerate(self._tracks()):
            for value in values_of(track, field):
                rows.append(row)
                values.append(numbers.setdefault(value, len(numbers)))
        return _Field(numbers, np.array(rows, dtype=np.int32), np.array(values, dtype=np.int32))


def by_field(filters: Sequence[str]) -> dict[str, set[str]]:
    """Return the values of each field, in lower case."""
    wanted: dict[str, set[str]] = {}
    for one in filters:
        field, _, value = one.partition(":")
        wanted.setdefault(field, set()).add(value.casefold())
    return wanted


def values_of(track: Track, field: str) -> list[str]:
    """Return the values of a field of a track, in lower case; a field that does not exist has none."""
    values: Sequence[object]
    if field == "genre":
        values = [track.genre, *(track.genres or ())]
    else:
        values = [getattr(track, field)] if field in FIELDS else []
    return [str(value).casefold() for value in values if value is not None]
