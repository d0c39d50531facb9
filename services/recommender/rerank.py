"""`rerank`: the best of what `fism`, `memory` and `i2i_stream` would offer, by one measure.

For each candidate ::

    value = predicted liking · γ ** (the session's listens of its artist)

with the prediction of the factors (see `fism`); for a track that the listener liked before, the mean of that and of
the remembered fraction times match (see `memory`). The answer is the candidate of the highest value, or with a
probability of `EXPLORE` any of the pool. Without a snapshot of the factors there is no answer.

Cost: about 35 µs a recommendation at batch 64, in sessions of 50 tracks.
"""

from __future__ import annotations

from services.recommender.candidates import Candidates, best_of_sessions, discounted, not_heard
from services.recommender.catalogue import Catalogue
from services.recommender.fism import answers_of, best_of_pools
from services.recommender.genre_pools import GenrePools
from services.recommender.i2i_stream import LatestGraph, liked_together
from services.recommender.memory import liked_before
from services.recommender.pool_logits import PoolLogits
from services.recommender.protocol import Answers, Batch, no_answers
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
            return no_answers(len(batch))
        table = factors.table(self._catalogue, self._pools)
        so_far = sessions_so_far(batch, self._catalogue)
        taste = table.taste(so_far)
        logits = PoolLogits(so_far, table, taste, self._pools, self._catalogue)
        best = best_of_pools(batch, so_far, logits)
        others = best_of_sessions(self._others(batch, so_far, table, taste, logits))
        better = others.where(others.scores > best.values[others.sessions])
        best.rows[better.sessions] = better.rows
        best.values[better.sessions] = better.scores
        return answers_of(best, self._catalogue, self._pools)

    def _others(
        self, batch: Batch, so_far: SessionsSoFar, table: FactorTable, taste: Taste, logits: PoolLogits
    ) -> Candidates:
        """Value what is remembered, and what the graph leads to outside of the pools: inside, all are valued."""
        catalogue, pool_of = self._catalogue, self._pools.pool_of
        liked = liked_before(batch, so_far, catalogue)
        near = liked_together(so_far, catalogue, self._graph())
        inside = pool_of[liked.rows] == logits.pools[liked.sessions]
        near = near.where(pool_of[near.rows] != logits.pools[near.sessions])
        here = discounted(liked.where(inside), so_far, catalogue)
        expected = logits.expected(here.sessions, here.rows)
        here = here._replace(scores=(here.scores + expected) / 2).where(expected > 0)
        far = self._predicted(liked.where(~inside), 0.5, so_far, table, taste)
        return Candidates.together(here, far, self._predicted(near, 0.0, so_far, table, taste))

    def _predicted(
        self, candidates: Candidates, remembered: float, so_far: SessionsSoFar, table: FactorTable, taste: Taste
    ) -> Candidates:
        """Value tracks outside of the pools, `remembered` being the weight of the score that they have."""
        free = not_heard(candidates, so_far, self._catalogue)
        predicted = table.predict(taste, free.sessions, free.rows)
        scores = remembered * free.scores + (1 - remembered) * predicted
        return discounted(free._replace(scores=scores), so_far, self._catalogue)
