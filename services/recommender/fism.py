"""`fism`: the track of the session's genre that the learned factors expect to be heard most.

For every track j of the pool that the session has not had ::

    value_j = σ(b_j + ease + ⟨z, x_j⟩) · γ ** (the session's listens of j's artist)

and the answer is the one with the highest value, or with a probability of `EXPLORE` any of them, all alike: without
that, what is never offered is never learned. The vectors x, the taste z and the ease are those of
`streams.learner.models`; the pool is that of `genre_pools`, which keeps a look at every candidate affordable.

Cost: about 25 µs a recommendation at batch 64, in sessions of 50 tracks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.keyed_random import integers, uniform
from services.recommender.catalogue import Catalogue
from services.recommender.genre_pools import GenrePools
from services.recommender.pool_logits import PoolLogits
from services.recommender.protocol import NO_ANSWER, Answers, Batch, no_answers
from services.recommender.served_factors import LatestFactors
from services.recommender.sessions_so_far import SessionsSoFar, sessions_so_far

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

EXPLORE = 0.02


class Best(NamedTuple):
    """The best track of each session's pool; all of shape (b,).

    Attributes
    ----------
    rows : ndarray of int64
        The catalogue's row; -1 where the session has heard nothing or everything.
    values : ndarray of float32
        Expected fraction, artist discount included.
    pools : ndarray of int64
    free : ndarray of int64
        Tracks of the pool that the session has not had.
    tries : ndarray of int64
        A row of the pool drawn from all of those where the session explores, else -1.
    """

    rows: Ints
    values: Floats
    pools: Ints
    free: Ints
    tries: Ints


class Fism:
    """Best of the pool by the factors.

    Parameters
    ----------
    catalogue : Catalogue
    pools : GenrePools
        Of this catalogue.
    factors : callable returning ServedFactors or None
        The newest snapshot.

    Examples
    --------
    >>> Fism(Catalogue([]), GenrePools(Catalogue([])), lambda: None).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "fism"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue, pools: GenrePools, factors: LatestFactors) -> None:
        self._catalogue = catalogue
        self._pools = pools
        self._factors = factors

    def recommend(self, batch: Batch) -> Answers:
        """Choose for each request; no answer before the first snapshot, or where the pool is used up."""
        factors = self._factors()
        if factors is None or not len(self._catalogue):
            return no_answers(len(batch))
        table = factors.table(self._catalogue, self._pools)
        so_far = sessions_so_far(batch, self._catalogue)
        logits = PoolLogits(so_far, table, table.taste(so_far), self._pools, self._catalogue)
        best = best_of_pools(batch, so_far, logits)
        return answers_of(best, self._catalogue, self._pools)


def best_of_pools(batch: Batch, so_far: SessionsSoFar, logits: PoolLogits) -> Best:
    """Return the best track of each session's pool, and a try for those that explore."""
    rows, values, free = logits.best()
    begun = so_far.valid[:, 0]
    best = Best(np.where(begun, rows, -1), values, logits.pools, np.where(begun, free, 0), np.full(len(so_far), -1))
    for session in np.flatnonzero((uniform(batch.keys, 10) < EXPLORE) & (best.free > 0)).tolist():
        chosen = integers(batch.keys[session : session + 1], 11, int(best.free[session]))
        best.tries[session] = logits.free_rows(session)[chosen[0]]
    return best


def answers_of(best: Best, catalogue: Catalogue, pools: GenrePools) -> Answers:
    """Answer with the best, or with the try where there is one."""
    chosen = np.where(best.tries >= 0, best.tries, best.rows)
    there = chosen >= 0
    by_trying = (pools.pool_of[chosen] == best.pools) * (EXPLORE / np.maximum(best.free, 1))
    by_being_best = (chosen == best.rows) * np.where(best.free > 0, 1 - EXPLORE, 1.0)
    return Answers(
        np.where(there, catalogue.tracks[chosen], NO_ANSWER),
        np.where(there, by_trying + by_being_best, 0.0),
        best.free,
    )
