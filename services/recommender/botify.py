"""`botify`: one recommender of two heads, what a track is worth to a listener and what is played next.

Listens that a recommender chose say by their fractions what tracks are worth; `rerank` ranks by that. Listens that
listeners chose themselves say what is played next; `next_track` ranks by that. Each session is answered by one head,
drawn from the session's id: by value with the share that such listens have of what the learner was told lately (see
`botify.streams.learner.models.factors`). So a service begins as `next_track` on a log that it imported, and becomes
`rerank` where it plays its own answers. While listens tell nothing, what is asked decides: a track to be played is
answered by value, a list to choose from by what is played next.

Where `next_track` has no answer, `rerank` answers. The propensity is the head's, times the probability of the head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import keys_of_texts, uniform
from botify.services.recommender.factors import LatestFactors
from botify.services.recommender.next_track import NextTrackRecommender
from botify.services.recommender.protocol import (
    NO_ANSWER,
    Answers,
    Batch,
    Floats,
    Ints,
    RandomStream,
    Ranking,
    Recommender,
    probability,
    rank,
    said_by,
)
from botify.services.recommender.rerank import Rerank


class Botify:
    """What a track is worth to the listener, or what is played next: as the listens tell."""

    name = "botify"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, recommenders: Mapping[str, Recommender], factors: LatestFactors) -> None:
        self._by_value = recommenders[Rerank.name]
        self._by_choice = recommenders[NextTrackRecommender.name]
        self._factors = factors

    def recommend(self, batch: Batch) -> Answers:
        chooses, probabilities = self.heads_of(batch, otherwise=1.0)
        tracks, candidates = np.full(len(batch), NO_ANSWER, dtype=np.int64), np.zeros(len(batch), dtype=np.int64)
        propensities = np.zeros(len(batch))
        for head, some, rows in self._parts(batch, chooses, tracks):
            answers = head.recommend(some)
            tracks[rows], propensities[rows] = answers.tracks, answers.propensities
            if answers.candidates is not None:
                candidates[rows] = answers.candidates
        return Answers(tracks, propensities * probabilities, candidates)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        """Return the probabilities given the heads of the sessions, which answers' propensities count in."""
        chooses, _ = self.heads_of(batch, otherwise=1.0)
        answered, found = np.full(len(batch), NO_ANSWER, dtype=np.int64), np.zeros(len(batch))
        for head, some, rows in self._parts(batch, chooses, answered):
            answered[rows] = head.recommend(some).tracks
            found[rows] = probability(head, some, tracks[rows])
        return found

    def rank(self, batch: Batch, k: int) -> Ranking:
        chooses, _ = self.heads_of(batch, otherwise=0.0)
        ranking, first = Ranking.none(len(batch), k), np.full(len(batch), NO_ANSWER, dtype=np.int64)
        for head, some, rows in self._parts(batch, chooses, first):
            ranking.tracks[rows], ranking.scores[rows] = found = rank(head, some, k)
            first[rows] = found.tracks[:, 0]
        return ranking

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return what the head of the session of the one request says."""
        chooses, _ = self.heads_of(batch, otherwise=0.0)
        return said_by(self._by_choice if chooses.all() else self._by_value, batch, tracks)

    def heads_of(self, batch: Batch, otherwise: float) -> tuple[NDArray[np.bool_], Floats]:
        """Return whether the session of each request is answered by choice, and the probability of its head.

        `otherwise` is the probability of an answer by value while listens tell nothing.
        """
        factors = self._factors()
        told = None if factors is None else factors.by_value
        by_value = otherwise if told is None else told
        sessions = keys_of_texts([request.session_id for request in batch.requests])
        chooses = uniform(sessions, RandomStream.HEAD) >= by_value
        return chooses, np.where(chooses, 1 - by_value, by_value)

    def _parts(
        self, batch: Batch, chooses: NDArray[np.bool_], tracks: Ints
    ) -> Iterator[tuple[Recommender, Batch, Ints]]:
        """Yield each head with its part of the batch, as rows too: by choice, then all that has no track yet."""
        for head, wanted in ((self._by_choice, chooses), (self._by_value, np.True_)):
            rows = np.flatnonzero(wanted & (tracks == NO_ANSWER))
            if len(rows):
                yield head, batch.select(rows), rows
