"""Exact nearest neighbours by inner product, as Botify's flat faiss index finds them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_BLOCK = 256
_GROUP = 128


def nearest(embeddings: NDArray[np.float32], tracks: NDArray[np.integer], count: int) -> NDArray[np.int32]:
    """Find the `count` tracks with the greatest inner product with each of `tracks`.

    Only the groups of columns with the greatest maxima are sorted: a track among the `count` best is in one of the
    `count` groups whose best track is best, so the answer is exact.

    Parameters
    ----------
    embeddings : ndarray, shape (all, dimensions)
    tracks : ndarray, shape (n,)
    count : int
        At most the number of all tracks.

    Returns
    -------
    ndarray of int32, shape (n, count)
        Nearest first; ties in order of the track's id.

    Examples
    --------
    >>> nearest(np.array([[1, 0], [2, 0], [0, 1]], dtype=np.float32), np.array([0]), 2).tolist()
    [[1, 0]]
    """
    total = len(embeddings)
    groups = -(-total // _GROUP)
    found = np.empty((len(tracks), count), dtype=np.int32)
    scores = np.full((min(_BLOCK, len(tracks)), groups * _GROUP), -np.inf, dtype=np.float32)
    for start in range(0, len(tracks), _BLOCK):
        chunk = tracks[start : start + _BLOCK]
        rows = scores[: len(chunk)]
        np.matmul(embeddings[chunk], embeddings.T, out=rows[:, :total])
        found[start : start + len(chunk)] = _best_columns(rows, groups, count)
    return found


def _best_columns(scores: NDArray[np.float32], groups: int, count: int) -> NDArray[np.int32]:
    grouped = scores.reshape(len(scores), groups, _GROUP)
    maxima = grouped.max(axis=2)
    kept = min(count, groups)
    # Sorted, so that equal scores keep the order of their ids.
    best_groups = np.sort(np.argpartition(-maxima, kept - 1, axis=1)[:, :kept], axis=1)
    columns = (best_groups[:, :, None] * _GROUP + np.arange(_GROUP)).reshape(len(scores), -1)
    candidates = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-candidates, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(columns, order, axis=1).astype(np.int32)
