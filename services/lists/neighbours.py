"""Which tracks are heard together: item-to-item similarity from sessions.

With w(s, i) the share of track i that was heard in session s, and n(i, j) the number of sessions in which both were
heard, the similarity is the cosine of the two tracks' columns, shrunk towards 0 where little is known::

    sim(i, j) = Σ_s w(s, i) w(s, j) / (‖w(·, i)‖ ‖w(·, j)‖)  ·  n(i, j) / (n(i, j) + λ)

Cosine: Sarwar et al., "Item-based collaborative filtering recommendation algorithms", WWW 2001; shrinkage: Bell and
Koren, "Improved neighborhood-based collaborative filtering", KDD Cup 2007.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.recommender.lists import NO_TRACK

SHRINKAGE = 2.0
MAX_SESSION_TRACKS = 100
"""Of a longer session only so many of its tracks count: the work grows with the square of it."""
_BLOCK = 1_000


class Neighbours(NamedTuple):
    """The most similar tracks of each track that has any.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        Ascending.
    lists : ndarray of int32, shape (n, k)
        Most similar first, ties in order of the id; then `NO_TRACK`.
    similarities : ndarray of float64, shape (n, k)
        0 where there is no track.
    """

    tracks: NDArray[np.int64]
    lists: NDArray[np.int32]
    similarities: NDArray[np.float64]


def find_neighbours(
    sessions: NDArray[np.uint64],
    tracks: NDArray[np.int64],
    fractions: NDArray[np.float64],
    count: int,
    shrinkage: float = SHRINKAGE,
) -> Neighbours:
    """Find each track's `count` most similar tracks.

    Parameters
    ----------
    sessions : ndarray of uint64, shape (n,)
        The session of each listen.
    tracks : ndarray of int64, shape (n,)
    fractions : ndarray of float64, shape (n,)
    count : int
        1 or more.
    shrinkage : float
        λ.

    Examples
    --------
    >>> found = find_neighbours(np.array([1, 1, 2]), np.array([7, 8, 8]), np.ones(3), count=2, shrinkage=0.0)
    >>> found.tracks.tolist(), found.lists.tolist(), found.similarities.round(3).tolist()
    ([7, 8], [[8, -1], [7, -1]], [[0.707, 0.0], [0.707, 0.0]])
    """
    ids, heard = _session_tracks(sessions, tracks, fractions)
    norms = np.sqrt(np.asarray(heard.multiply(heard).sum(axis=0)).ravel())
    scaled = heard.multiply(1.0 / np.maximum(norms, np.finfo(float).tiny)).tocsc()
    present = (heard > 0).astype(np.float64).tocsc()
    lists = np.full((len(ids), count), NO_TRACK, dtype=np.int32)
    similarities = np.zeros((len(ids), count))
    for start in range(0, len(ids), _BLOCK):
        block = slice(start, start + _BLOCK)
        together = (present[:, block].T @ present).tocsr()
        cosine = (scaled[:, block].T @ scaled).tocsr()
        _take_best(cosine, together, shrinkage, start, ids, lists[block], similarities[block])
    some = lists[:, 0] != NO_TRACK
    return Neighbours(ids[some], lists[some], similarities[some])


def _session_tracks(
    sessions: NDArray[np.uint64], tracks: NDArray[np.int64], fractions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], sparse.csc_array]:
    """Return the track ids, and the matrix of sessions by tracks with the share heard; of repeats the largest."""
    ids, columns = np.unique(tracks, return_inverse=True)
    _, rows = np.unique(sessions, return_inverse=True)
    order = np.lexsort((-fractions, columns, rows))
    rows, columns, heard = rows[order], columns[order], fractions[order]
    first = np.ones(len(rows), dtype=np.bool_)
    first[1:] = (rows[1:] != rows[:-1]) | (columns[1:] != columns[:-1])
    first &= heard > 0
    rows, columns, heard = rows[first], columns[first], heard[first]
    begins = np.searchsorted(rows, rows)
    kept = np.arange(len(rows)) - begins < MAX_SESSION_TRACKS
    shape = (int(rows.max(initial=-1)) + 1, len(ids))
    return ids, sparse.csc_array((heard[kept], (rows[kept], columns[kept])), shape=shape)


def _take_best(
    cosine: sparse.csr_array,
    together: sparse.csr_array,
    shrinkage: float,
    start: int,
    ids: NDArray[np.int64],
    lists: NDArray[np.int32],
    similarities: NDArray[np.float64],
) -> None:
    """Write the best of a block of rows; `lists` and `similarities` are views of that block."""
    cosine.sort_indices()
    together.sort_indices()
    rows = np.repeat(np.arange(len(lists)), np.diff(cosine.indptr))
    columns = cosine.indices
    similarity = cosine.data * together.data / (together.data + shrinkage)
    other = columns != rows + start
    rows, columns, similarity = rows[other], columns[other], similarity[other]
    order = np.lexsort((columns, -similarity, rows))
    rows, columns, similarity = rows[order], columns[order], similarity[order]
    rank = np.arange(len(rows)) - np.searchsorted(rows, rows)
    best = rank < lists.shape[1]
    lists[rows[best], rank[best]] = ids[columns[best]]
    similarities[rows[best], rank[best]] = similarity[best]
