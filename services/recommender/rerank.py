"""`fism`: the unheard track of the session's genre with the highest predicted fraction.

For every track j of the pool that the session has not heard ::

    value_j = σ(b_j + u + ⟨z, x_j⟩) · γ ** (the session's listens of j's artist)

and the answer is the one with the highest value, or with probability `EXPLORE` one of them drawn uniformly: a track
that is never recommended is never learned. The vectors x, the taste z and the user bias u are those of
`streams.learner.models`; pools bound the number of candidates, see `factors`.

`memory`: a track that the listener liked in a similar earlier session.

A like (see `streams.folds.likes`) knows its track, how much of it was heard, and the first track of its session. Its
score is ::

    fraction · match · γ ** (this session's listens of the artist)

where the match is 1 if its session began with the same track as this one, 0.9 with the same artist, 0.8 in the same
genre, and 0.3 otherwise. The answer is drawn uniformly from the `BEST` best that this session has not heard.

`rerank`: the best of the candidates of `fism`, `memory` and `i2i_stream`, ranked by one value.

For each candidate ::

    value = predicted affinity · γ ** (the session's listens of its artist)

with the prediction of the factors (see `fism`); for a track that the listener liked before, the mean of that and of
the remembered fraction times match (see `memory`). The answer is the candidate with the highest value, or with
probability `EXPLORE` any of the pool. Without a snapshot of the factors there is no answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import integers, uniform
from services.recommender.candidates import (
    Candidates,
    LatestGraph,
    best_of_candidates,
    discounted,
    draw_from_best,
    earlier_of_artists,
    liked_before,
    liked_together,
    not_heard,
    unheard,
)
from services.recommender.catalogue import Catalogue
from services.recommender.factors import GenrePools, LatestFactors, PoolLogits
from services.recommender.protocol import NO_ANSWER, Answers, Batch, RandomStream, Ranking, no_answers, no_ranking
from services.recommender.sessions import SessionsSoFar, sessions_so_far
from streams.learner.models.taste import ARTIST_DISCOUNT

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

EXPLORE = 0.02


class Best(NamedTuple):
    """The best track of each session's pool; all of shape (b,).

    Attributes
    ----------
    rows : ndarray of int64
        Row in the catalogue; -1 if the session has heard nothing, or all of the pool.
    values : ndarray of float32
        Predicted fraction, artist discount included.
    pools : ndarray of int64
    free : ndarray of int64
        Number of tracks of the pool that the session has not heard.
    explored : ndarray of int64
        A row drawn uniformly from the unheard tracks of the pool if the session explores, else -1.
    """

    rows: Ints
    values: Floats
    pools: Ints
    free: Ints
    explored: Ints


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
        """Choose for each request; no answer before the first snapshot, or if all of the pool was heard."""
        scored = self._scored(batch)
        if scored is None:
            return no_answers(len(batch))
        return answers_of(self._best(batch, *scored), self._catalogue, self._pools)

    def rank(self, batch: Batch, k: int) -> Ranking:
        """Return the best of each session's candidates."""
        scored = self._scored(batch)
        if scored is None:
            return no_ranking(len(batch), k)
        return best_of_candidates(self._top(batch, *scored, k), len(batch), k, self._catalogue)

    def _scored(self, batch: Batch) -> tuple[SessionsSoFar, PoolLogits] | None:
        factors = self._factors()
        if factors is None or not len(self._catalogue):
            return None
        so_far = sessions_so_far(batch, self._catalogue)
        table = factors.table(self._catalogue, self._pools)
        return so_far, PoolLogits(so_far, table, self._pools, self._catalogue)

    def _best(self, batch: Batch, so_far: SessionsSoFar, logits: PoolLogits) -> Best:
        return best_of_pools(batch, so_far, logits)

    def _top(self, _batch: Batch, so_far: SessionsSoFar, logits: PoolLogits, k: int) -> Candidates:
        return top_of_pools(so_far, logits, k)


def top_of_pools(so_far: SessionsSoFar, logits: PoolLogits, k: int) -> Candidates:
    """Return the k best tracks of each session's pool; none for a session that has heard nothing."""
    sessions, rows, values = logits.top(k)
    return Candidates(sessions, rows, values.astype(np.float64)).where(so_far.valid[sessions, 0])


def best_of_pools(batch: Batch, so_far: SessionsSoFar, logits: PoolLogits) -> Best:
    """Return the best track of each session's pool, and a random one for sessions that explore."""
    rows, values, free = logits.best()
    begun = so_far.valid[:, 0]
    best = Best(np.where(begun, rows, -1), values, logits.pools, np.where(begun, free, 0), np.full(len(so_far), -1))
    for session in np.flatnonzero((uniform(batch.keys, RandomStream.EXPLORE) < EXPLORE) & (best.free > 0)).tolist():
        chosen = integers(batch.keys[session : session + 1], RandomStream.EXPLORED_TRACK, int(best.free[session]))
        best.explored[session] = logits.free_rows(session)[chosen[0]]
    return best


def answers_of(best: Best, catalogue: Catalogue, pools: GenrePools) -> Answers:
    """Answer with the explored track if there is one, else with the best."""
    chosen = np.where(best.explored >= 0, best.explored, best.rows)
    there = chosen >= 0
    by_exploring = (pools.pool_of[chosen] == best.pools) * (EXPLORE / np.maximum(best.free, 1))
    by_value = (chosen == best.rows) * np.where(best.free > 0, 1 - EXPLORE, 1.0)
    return Answers(
        np.where(there, catalogue.tracks[chosen], NO_ANSWER),
        np.where(there, by_exploring + by_value, 0.0),
        best.free,
    )


class Rerank(Fism):
    """Best of all candidates by one value.

    Parameters
    ----------
    catalogue, pools, factors
        As of `Fism`.
    graph : callable returning ServedGraph or None
        The newest snapshot.

    Examples
    --------
    >>> nothing = Catalogue([])
    >>> recommender = Rerank(nothing, GenrePools(nothing), lambda: None, lambda: None)
    >>> recommender.recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "rerank"

    def __init__(self, catalogue: Catalogue, pools: GenrePools, factors: LatestFactors, graph: LatestGraph) -> None:
        super().__init__(catalogue, pools, factors)
        self._graph = graph

    def _best(self, batch: Batch, so_far: SessionsSoFar, logits: PoolLogits) -> Best:
        """Return the best of the pool or of the other candidates."""
        best = super()._best(batch, so_far, logits)
        others = best_of_sessions(self._others(batch, so_far, logits))
        better = others.where(others.scores > best.values[others.sessions])
        best.rows[better.sessions] = better.rows
        best.values[better.sessions] = better.scores
        return best

    def _top(self, batch: Batch, so_far: SessionsSoFar, logits: PoolLogits, k: int) -> Candidates:
        """Return the candidates of all sources."""
        every = Candidates.together(super()._top(batch, so_far, logits, k), self._others(batch, so_far, logits))
        return unheard(every, so_far, self._catalogue)

    def _others(self, batch: Batch, so_far: SessionsSoFar, logits: PoolLogits) -> Candidates:
        """Value remembered tracks, and neighbours outside of the pools: those inside have a value already."""
        catalogue, pool_of = self._catalogue, self._pools.pool_of
        liked, near = liked_before(batch, so_far, catalogue), liked_together(so_far, catalogue, self._graph())
        inside = pool_of[liked.rows] == logits.pools[liked.sessions]
        here = discounted(liked.where(inside), so_far, catalogue)
        far = not_heard(liked.where(~inside), so_far, catalogue)
        near = not_heard(near.where(pool_of[near.rows] != logits.pools[near.sessions]), so_far, catalogue)
        outside = Candidates.together(far, near)
        discounts = ARTIST_DISCOUNT ** earlier_of_artists(outside.sessions, outside.rows, so_far, catalogue)
        expected = logits.expected(here.sessions, here.rows)
        here = here._replace(scores=(here.scores + expected) / 2).where(expected > 0)
        # half of a liked track's value is the remembered score, and nothing of a neighbour's
        remembered = np.repeat([0.5, 0.0], [len(far.rows), len(near.rows)])
        scores = remembered * outside.scores + (1 - remembered) * logits.affinity(outside.sessions, outside.rows)
        return Candidates.together(here, outside._replace(scores=scores * discounts))


def best_of_sessions(candidates: Candidates) -> Candidates:
    """Return each session's best candidate; ties go to the lowest row."""
    order = np.lexsort((candidates.rows, -candidates.scores, candidates.sessions))
    first = np.diff(candidates.sessions[order], prepend=-1) != 0
    return candidates.where(order[first])


BEST = 3
LEAST_SCORE = 0.25
"""Candidates with a lower score are dropped; without any, the fallback answers."""


class Memory:
    """Tracks that the listener liked before.

    Examples
    --------
    >>> Memory(Catalogue([])).recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "memory"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue

    def recommend(self, batch: Batch) -> Answers:
        """Draw for each request; no answer without a candidate of at least `LEAST_SCORE`."""
        if not len(self._catalogue):
            return no_answers(len(batch))
        so_far = sessions_so_far(batch, self._catalogue)
        liked = unheard(liked_before(batch, so_far, self._catalogue), so_far, self._catalogue)
        remembered = discounted(liked, so_far, self._catalogue)
        good = remembered.where(remembered.scores >= LEAST_SCORE)
        return draw_from_best(good, batch.keys, RandomStream.MEMORY, BEST, self._catalogue)
