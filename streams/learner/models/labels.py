"""How often a session's tracks have the labels of a track (`schemas.track_labels`): for the learner and for serving.

A label matches a track as far as the session liked what has it: with the weights w of the taste (see `taste`), after n
listens, label l of track j ::

    m_l = n**-0.5 · Σ w_i · [track i has the same value of l]

That is the inner product of the taste with the track, if each value of the label were a dimension of its own. How much
a match is worth is learned, one weight for each label: a few sessions tell it, where vectors of 32 dimensions need many
listens of each track, and would mistake one of thousands of artists for another.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.schemas.track_labels import LABELS, UNKNOWN
from botify.streams.learner.models.taste import root_lengths

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


def matches_before(labels: Ints, weight: Floats) -> Floats:
    """Return how each listen's labels match the listens before it.

    Parameters
    ----------
    labels : ndarray of int64, shape (b, n, len(LABELS))
        `UNKNOWN` where a session has no listen.
    weight : ndarray of float32, shape (b, n)
        See `botify.streams.learner.models.taste.weights`.

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
