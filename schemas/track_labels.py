"""What the catalogue says of a track, as numbers that are equal where the words are, in any process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import keys_of_texts
from botify.schemas.events import Track

Ints = NDArray[np.int64]

LABELS = ("artist", "genre", "mood", "country", "period")
"""The artist comes first."""
PERIOD_YEARS = 5
"""Years that count as one period."""
UNKNOWN = -1
"""A value that matches no other, not even itself."""


def numbers_of(texts: Sequence[str]) -> Ints:
    """Return the number of each text, shape (n,); `UNKNOWN` for an empty one."""
    numbers = (keys_of_texts(list(texts)) >> np.uint64(1)).astype(np.int64)
    numbers[[not text for text in texts]] = UNKNOWN
    return numbers


def labels_of(tracks: Iterable[Track]) -> Ints:
    """Return the labels of tracks as numbers.

    Returns ndarray of int64, shape (n, len(LABELS)).

    Examples
    --------
    >>> tracks = Track(7, "a", None, "jazz", "x"), Track(8, "b", None, "jazz", "y", year=1999)
    >>> one, another = labels_of(tracks).tolist()
    >>> one[1] == another[1] != UNKNOWN, one[4] == UNKNOWN != another[4]
    (True, True)
    """
    texts = [
        text
        for one in tracks
        for text in (
            one.artist,
            one.genre or "",
            one.mood or "",
            one.country or "",
            "" if one.year is None else str(one.year // PERIOD_YEARS),
        )
    ]
    return numbers_of(texts).reshape(-1, len(LABELS))
