"""What the catalogue says of a track, and how often a session's tracks say the same: for the learner and for serving.

A label matches a track as far as the session liked what has it: with the weights w of the taste (see `taste`), after n
listens, label l of track j ::

    m_l = n**-0.5 · Σ w_i · [track i has the same value of l]

That is the inner product of the taste with the track, if each value of the label were a dimension of its own. How much
a match is worth is learned, one weight for each label: a few sessions tell it, where vectors of 32 dimensions need many
listens of each track, and would mistake one of thousands of artists for another.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import keys_of_texts
from schemas.events import Track
from streams.learner.models.taste import root_lengths

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LABELS = ("artist", "genre", "mood", "country", "period")
"""The artist comes first."""
PERIOD_YEARS = 5
"""Years that count as one period."""
UNKNOWN = -1
"""A value that matches no other, not even itself."""


def labels_of(tracks: Iterable[Track]) -> Ints:
    """Return the labels of tracks as numbers; equal values have equal numbers, in any process.

    Returns
    -------
    ndarray of int64, shape (n, len(LABELS))

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
    numbers = (keys_of_texts(texts) >> np.uint64(1)).astype(np.int64)
    numbers[[not text for text in texts]] = UNKNOWN
    return numbers.reshape(-1, len(LABELS))


def matches_before(labels: Ints, weight: Floats) -> Floats:
    """Return how each listen's labels match the listens before it.

    Parameters
    ----------
    labels : ndarray of int64, shape (b, n, len(LABELS))
        `UNKNOWN` where a session has no listen.
    weight : ndarray of float32, shape (b, n)
        See `streams.learner.models.taste.weights`.

    Returns
    -------
    ndarray of float32, shape (b, n, len(LABELS))

    Examples
    --------
    >>> labels = np.full((1, 3, len(LABELS)), UNKNOWN)
    >>> labels[0, :, 1] = 6, 7, 6
    >>> matches = matches_before(labels, np.array([[1.0, -0.4, 0.6]], dtype=np.float32))
    >>> [round(float(match), 2) for match in matches[0, :, 1]]
    [0.0, 0.0, 0.71]
    """
    n = weight.shape[1]
    found = np.zeros(labels.shape, dtype=np.float32)
    if n < 2:
        return found
    earlier = np.tri(n, k=-1, dtype=bool)
    for at in range(len(LABELS)):
        values = labels[..., at]
        if (values == UNKNOWN).all():
            continue
        same = (values[:, :, None] == values[:, None, :]) & (values != UNKNOWN)[:, :, None] & earlier
        found[..., at] = np.matmul(same.astype(np.float32), weight[..., None])[..., 0]
    found[:, 1:] /= root_lengths(n - 1)[:, None]
    return found
