"""A list for each listener: what is similar to what they liked, then what is popular.

The score of a track t for a listener u is Σ_i liked(u, i) · sim(i, t) over the tracks i of which they heard half or
more, with liked(u, i) the fractions added up. What they have heard already is left out. Where fewer tracks than
wanted have a score, the most popular ones (fractions added up over all listeners) that they have not heard follow.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from services.lists.heard import Heard
from services.lists.neighbours import Neighbours
from services.recommender.lists import NO_TRACK, Lists

LIKED = 0.5
"""From this fraction on a track was liked."""


def make_user_lists(heard: Heard, neighbours: Neighbours, count: int) -> Lists:
    """Make a list of up to `count` tracks for each listener in `heard`.

    Examples
    --------
    >>> heard = Heard.of("abc", "sst", [1, 1, 2], [7, 8, 7], [1.0, 0.2, 1.0], [0, 1, 2])
    >>> neighbours = Neighbours(np.array([7]), np.array([[9, 8]]), np.array([[0.5, 0.1]]))
    >>> make_user_lists(heard, neighbours, 2).of(np.array([1, 2]))[0].tolist()
    [[9, -1], [9, 8]]
    """
    users, rows = np.unique(heard.users, return_inverse=True)
    ids = np.unique(np.concatenate([heard.tracks, neighbours.lists[neighbours.lists != NO_TRACK]]))
    columns = np.searchsorted(ids, heard.tracks)
    shape = (len(users), len(ids))
    liked = heard.fractions >= LIKED
    likes = sparse.csr_array((heard.fractions[liked], (rows[liked], columns[liked])), shape=shape)
    scores = (likes @ _similarities(neighbours, ids)).tocsr()
    known = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
    popular = _by_popularity(columns, heard.fractions, len(ids))
    lists = np.full((len(users), count), NO_TRACK, dtype=np.int32)
    for row in range(len(users)):
        already = known.indices[known.indptr[row] : known.indptr[row + 1]]
        scored = slice(scores.indptr[row], scores.indptr[row + 1])
        picked = _pick(scores.indices[scored], scores.data[scored], already, popular, count)
        lists[row, : len(picked)] = ids[picked]
    return Lists(users, lists)


def _similarities(neighbours: Neighbours, ids: NDArray[np.int64]) -> sparse.csr_array:
    listed = neighbours.lists != NO_TRACK
    of = np.broadcast_to(neighbours.tracks[:, None], listed.shape)[listed]
    at = np.searchsorted(ids, of), np.searchsorted(ids, neighbours.lists[listed])
    return sparse.csr_array((neighbours.similarities[listed], at), shape=(len(ids), len(ids)))


def _by_popularity(columns: NDArray[np.int64], fractions: NDArray[np.float64], tracks: int) -> NDArray[np.int64]:
    return np.argsort(-np.bincount(columns, weights=fractions, minlength=tracks), kind="stable")


def _pick(
    scored: NDArray[np.integer],
    scores: NDArray[np.float64],
    already: NDArray[np.integer],
    popular: NDArray[np.int64],
    count: int,
) -> Sequence[int]:
    """Return the best scored, then the most popular, without those that are known already."""
    best = scored[np.lexsort((scored, -scores))].tolist()
    taken = set(already.tolist())
    picked: list[int] = []
    # at most len(taken) of the popular ones are passed over
    for track in [*best, *popular[: count + len(taken) + len(best)].tolist()]:
        if len(picked) == count:
            break
        if track not in taken:
            taken.add(track)
            picked.append(track)
    return picked
