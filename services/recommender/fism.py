"""`fism`: the track of the session's genre that the learned factors expect to be heard most.

For every track j of the pool that the session has not had ::

    value_j = σ(b_j + ease + ⟨z, x_j⟩) · γ ** (the session's listens of j's artist)

and the answer is the one with the highest value, or with a probability of `EXPLORE` any of them, all alike: without
that, what is never offered is never learned. The vectors x, the taste z and the ease are those of
`streams.learner.models`; the pool is that of `genre_pools`, which keeps a look at every candidate affordable.

Cost: about 30 µs a recommendation at batch 64.
"""

from __future__ import annotations

from collections.abc import Iterator
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


class PoolValues(NamedTuple):
    """Sessions of one pool, with a value for each of its tracks.

    Attributes
    ----------
    sessions : ndarray of int64, shape (k,)
        Which of the batch.
    rows : ndarray of int64, shape (size of the pool,)
    values : ndarray of float32, shape (k, size of the pool)
        Expected fractions; `TAKEN` for what the session has had.
    """

    sessions: Ints
    rows: Ints
    values: Floats


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
        tracks = np.full(len(batch), NO_ANSWER)
        propensities = np.zeros(len(batch))
        candidates = np.zeros(len(batch), dtype=np.int64)
        if factors is None or not len(self._catalogue):
            return Answers(tracks, propensities, candidates)
        table = factors.table(self._catalogue, self._pools)
        so_far = sessions_so_far(batch, self._catalogue)
        for at in pool_values(so_far, table, table.taste(so_far), self._pools):
            chosen, propensity, free = choose(at.values, uniform(batch.keys[at.sessions], 10), batch.keys[at.sessions])
            answered = free > 0
            tracks[at.sessions] = np.where(answered, self._catalogue.tracks[at.rows[chosen]], NO_ANSWER)
            propensities[at.sessions] = propensity
            candidates[at.sessions] = free
        return Answers(tracks, propensities, candidates)


def pool_values(so_far: SessionsSoFar, table: FactorTable, taste: Taste, pools: GenrePools) -> Iterator[PoolValues]:
    """Value every track of each session's pool, pool by pool; sessions that have heard nothing are left out."""
    pool_of = pools.of_sessions(so_far)
    known = so_far.valid[:, 0]
    place_in_group = np.zeros(len(so_far), dtype=np.int64)
    for pool in np.unique(pool_of[known]).tolist():
        sessions = np.flatnonzero(known & (pool_of == pool))
        rows, start, slots = pools.rows(pool), pools.start[pool], int(pools.slots[pool])
        place_in_group[sessions] = np.arange(len(sessions))
        here = (pools.pool_of[so_far.heard] == pool) & known[so_far.session_of] & (pool_of[so_far.session_of] == pool)
        heard, group = so_far.heard[here], place_in_group[so_far.session_of[here]]
        counts = np.bincount(group * slots + pools.slot_of[heard], minlength=len(sessions) * slots)
        discount = _POWERS[counts.reshape(len(sessions), slots)][:, pools.slot_of[rows]]
        logits = taste.vectors[sessions] @ table.pooled[start : start + len(rows)].T
        values = expit(logits + taste.ease[sessions, None]) * discount
        values[group, pools.place_of[heard] - start] = TAKEN
        yield PoolValues(sessions, rows, values)


def choose(
    values: Floats, draw: NDArray[np.float64], keys: NDArray[np.uint64]
) -> tuple[Ints, NDArray[np.float64], Ints]:
    """Take the best column of each row, or now and then any that is not `TAKEN`.

    Parameters
    ----------
    values : ndarray of float32, shape (k, n)
    draw : ndarray of float64, shape (k,)
        Uniform in [0, 1); whether to explore.
    keys : ndarray of uint64, shape (k,)
        Of where to explore.

    Returns
    -------
    columns : ndarray of int64, shape (k,)
    propensities : ndarray of float64, shape (k,)
    free : ndarray of int64, shape (k,)
        How many columns there were to choose from; where 0, the rest means nothing.
    """
    free = (values >= 0).sum(axis=1)
    best = np.argmax(values, axis=1)
    chosen = best.copy()
    for row in np.flatnonzero((draw < EXPLORE) & (free > 0)).tolist():
        columns = np.flatnonzero(values[row] >= 0)
        chosen[row] = columns[integers(keys[row : row + 1], 11, len(columns))[0]]
    each = EXPLORE / np.maximum(free, 1)
    return chosen, np.where(free > 0, each + (chosen == best) * (1 - EXPLORE), 0.0), free
