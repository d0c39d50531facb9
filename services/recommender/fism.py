"""`fism`: the track of the session's genre that the learned factors expect to be heard most.

For every track j of the pool that the session has not had ::

    value_j = σ(b_j + ease + ⟨z, x_j⟩) · γ ** (the session's listens of j's artist)

and the answer is the one with the highest value, or with a probability of `EXPLORE` any of them, all alike: without
that, what is never offered is never learned. The vectors x, the taste z and the ease are those of
`streams.learner.models`; the pool is that of `genre_pools`, which keeps a look at every candidate affordable.

Cost: about 30 µs a recommendation at batch 64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from schemas.keyed_random import integers, uniform
from services.recommender.catalogue import Catalogue
from services.recommender.genre_pools import GenrePools
from services.recommender.protocol import NO_ANSWER, Answers, Batch
from services.recommender.served_factors import FactorTable, LatestFactors, Taste
from services.recommender.sessions_so_far import SessionsSoFar, sessions_so_far
from streams.learner.models.taste import ARTIST_DISCOUNT

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

EXPLORE = 0.02
TAKEN = -1.0
"""Value of a track that the session has had."""
_POWERS = (ARTIST_DISCOUNT ** np.arange(1001)).astype(np.float32)


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
            return Answers(np.full(len(batch), NO_ANSWER), np.zeros(len(batch)))
        table = factors.table(self._catalogue, self._pools)
        so_far = sessions_so_far(batch, self._catalogue)
        best = best_of_pools(batch, so_far, table, table.taste(so_far), self._pools)
        return answers_of(best, self._catalogue, self._pools)


def best_of_pools(batch: Batch, so_far: SessionsSoFar, table: FactorTable, taste: Taste, pools: GenrePools) -> Best:
    """Value every track of each session's pool, pool by pool, and return the best ones."""
    b = len(so_far)
    best = Best(
        np.full(b, -1), np.full(b, TAKEN, np.float32), pools.of_sessions(so_far), np.zeros(b, int), np.full(b, -1)
    )
    explores = uniform(batch.keys, 10) < EXPLORE
    for pool in np.unique(best.pools[so_far.valid[:, 0]]).tolist():
        sessions = np.flatnonzero(so_far.valid[:, 0] & (best.pools == pool))
        rows = pools.rows(pool)
        values = _values(so_far, sessions, table, taste, pools, pool)
        columns = np.argmax(values, axis=1)
        best.values[sessions] = values[np.arange(len(sessions)), columns]
        best.free[sessions] = (values != TAKEN).sum(axis=1)
        best.rows[sessions] = np.where(best.free[sessions] > 0, rows[columns], -1)
        for at in np.flatnonzero(explores[sessions] & (best.free[sessions] > 0)).tolist():
            free = np.flatnonzero(values[at] != TAKEN)
            session = sessions[at]
            best.tries[session] = rows[free[integers(batch.keys[session : session + 1], 11, len(free))[0]]]
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


def _values(
    so_far: SessionsSoFar, sessions: Ints, table: FactorTable, taste: Taste, pools: GenrePools, pool: int
) -> Floats:
    """Return the value of each track of a pool for some sessions, shape (k, size of the pool)."""
    rows, start, slots = pools.rows(pool), pools.start[pool], int(pools.slots[pool])
    place = np.full(len(so_far), -1)
    place[sessions] = np.arange(len(sessions))
    group = place[so_far.session_of]
    here = (group >= 0) & (pools.pool_of[so_far.heard] == pool)
    heard, group = so_far.heard[here], group[here]
    counts = np.bincount(group * slots + pools.slot_of[heard], minlength=len(sessions) * slots)
    discount = _POWERS[counts].reshape(len(sessions), slots)[:, pools.slot_of[rows]]
    logits = taste.vectors[sessions] @ table.pooled[start : start + len(rows)].T
    values: Floats = expit(logits + taste.ease[sessions, None]) * discount
    values[group, pools.place_of[heard] - start] = TAKEN
    return values
