"""Which tracks of the catalogue a slate may have: `field:value` filters as arrays of rows.

Values of one field are alternatives, and every field must hold: `genre:rock`, `genre:pop`, `year:1999` are the
tracks of 1999 that are rock or pop. Case does not matter. A filter is looked for in all tracks once, and then kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from schemas.events import Track

FIELDS = ("artist", "album", "genre", "mood", "year", "country")
KEPT = 256


class Filters:
    """Rows by filter.

    Parameters
    ----------
    tracks : iterable of Track
        In the order of the catalogue's rows.

    Examples
    --------
    >>> tracks = [Track(3, "a", None, "rock", "x", genres=["rock", "pop"]), Track(7, "b", None, "pop", "y")]
    >>> filters = Filters(tracks)
    >>> filters.mask(["genre:Pop", "artist:b"]).tolist(), filters.mask(["genre:rock", "genre:pop"]).tolist()
    ([False, True], [True, True])
    """

    def __init__(self, tracks: Iterable[Track]) -> None:
        self._tracks = list(tracks)
        self._rows = lru_cache(KEPT)(self._find)

    def mask(self, filters: Sequence[str]) -> NDArray[np.bool_]:
        """Return which rows pass, shape (n,)."""
        allowed = np.ones(len(self._tracks), dtype=np.bool_)
        by_field: dict[str, list[str]] = {}
        for one in filters:
            field, _, value = one.partition(":")
            by_field.setdefault(field, []).append(value.casefold())
        for field, values in by_field.items():
            some = np.zeros(len(self._tracks), dtype=np.bool_)
            for value in values:
                some |= self._rows(field, value)
            allowed &= some
        return allowed

    def _find(self, field: str, value: str) -> NDArray[np.bool_]:
        return np.array([value in values_of(track, field) for track in self._tracks], dtype=np.bool_)


def values_of(track: Track, field: str) -> list[str]:
    """Return the values of a field of a track, in lower case; a field that does not exist has none."""
    values: Sequence[object]
    if field == "genre":
        values = [track.genre, *(track.genres or ())]
    else:
        values = [getattr(track, field)] if field in FIELDS else []
    return [str(value).casefold() for value in values if value is not None]
