"""`rerank`: the best of what `fism`, `memory` and `i2i_stream` would offer, by one measure.

For each candidate ::

    value = predicted liking · γ ** (the session's listens of its artist)

with the prediction of the factors (see `fism`); for a track that the listener liked before, the mean of that and of
the remembered fraction times match (see `memory`). The answer is the candidate of the highest value, or with a
probability of `EXPLORE` any of the pool. Without a snapshot of the factors there is no answer.

Cost: about 60 µs a recommendation at batch 64.
"""

from __future__ import annotations

import numpy as np

from services.recommender.candidates import Candidates, best_of_sessions, discounted
from services.recommender.catalogue import Catalogue
from services.recommender.fism import answers_of, best_of_pools
from services.recommender.genre_pools import GenrePools
from services.recommender.i2i_stream import LatestGraph, liked_together
from services.recommender.memory import liked_before
from services.recommender.protocol import NO_ANSWER, Answers, Batch
from services.recommender.served_factors import FactorTable, LatestFactors, Taste
from services.recommender.sessions_so_far import SessionsSoFar, sessions_so_far


class Rerank:
    """All candidates by one measure.

    Parameters
    ----------
    catalogue : Catalogue
    pools : GenrePools
        Of this catalogue.
    factors, graph : callable returning a snapshot or None

    Examples
    --------
    >>> nothing = Catalogue([])
    >>> recommender = Rerank(nothing, GenrePools(nothing), lambda: None, lambda: None)
    >>> recommender.recommend(Batch.of([], [])).tracks.tolist()
    []
    """

    name = "rerank"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue, pools: GenrePools, factors: LatestFactors, graph: LatestGraph) -> None:
        self._catalogue = catalogue
        self._pools = pools
        self._factors = factors
        self._graph = graph

    def recommend(self, batch: Batch) -> Answers:
        """Choose for each request."""
        factors = self._factors()
        if factors is None or not len(self._catalogue):
            return Answers(np.full(len(batch), NO_ANSWER), np.zeros(len(batch)))
        table = factors.table(self._catalogue, self._pools)
        so_far = sessions_so_far(batch, self._catalogue)
        taste = table.taste(so_far)
        best = best_of_pools(batch, so_far, table, taste, self._pools)
        others = best_of_sessions(self._others(batch, so_far, table, taste))
        better = others.where(others.scores > best.values[others.sessions])
        best.rows[better.sessions] = better.rows
        best.values[better.sessions] = better.scores
        return answers_of(best, self._catalogue, self._pools)

    def _others(self, batch: Batch, so_far: SessionsSoFar, table: FactorTable, taste: Taste) -> Candidates:
        """Value what is remembered and what the graph leads to."""
        liked = liked_before(batch, so_far, self._catalogue)
        near = liked_together(so_far, self._catalogue, self._graph())
        valued = Candidates(
            np.concatenate([liked.sessions, near.sessions]),
            np.concatenate([liked.rows, near.rows]),
            np.zeros(len(liked.rows) + len(near.rows)),
        )
        predicted = table.predict(taste, valued.sessions, valued.rows).astype(np.float64)
        predicted[: len(liked.rows)] = (predicted[: len(liked.rows)] + liked.scores) / 2
        return discounted(valued._replace(scores=predicted), so_far, self._catalogue)
