"""`rerank`: the best unheard track of two sources, ranked by one value.

- The tracks of the clusters that fit the session's taste best, and all of the artists that it heard (see `factors`).
- What the listener liked in earlier sessions (see `streams.folds.likes`).

The value is the logit of the factors. Listeners return to what they were after before. So as far as an earlier session
was after the same as this one (see `candidates.liked_before`), what was liked in it counts for the taste as if this one
had heard it, and is expected to be heard as it was then.

With probability `EXPLORE` the answer is any track of the clusters, drawn uniformly: what is never recommended is never
learned. Without a snapshot of the factors there is no answer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from botify.core.keyed_random import integers, uniform
from botify.services.recommender.candidates import (
    Candidates,
    best_of_candidates,
    liked_before,
    likes_of,
    unheard,
)
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.factors import LatestFactors, OfferedTracks
from botify.services.recommender.protocol import NO_ANSWER, Answers, Batch, Floats, Ints, RandomStream, Ranking
from botify.services.recommender.sessions import SessionsSoFar, sessions_so_far

EXPLORE = 0.02
MOST_VALUED = 20_000
"""Tracks that pass a filter and are all valued, in about 3 ms; of more, only those of the clusters offered."""


class Rerank:
    """The track valued most of what fits the session or was liked before."""

    name = "rerank"
    fallback: str | None = "sticky_norepeat"

    def __init__(self, catalogue: Catalogue, factors: LatestFactors) -> None:
        self._catalogue = catalogue
        self._factors = factors

    def recommend(self, batch: Batch) -> Answers:
        """Choose for each request; no answer before the first snapshot, or if all that is offered was heard."""
        parts = [self._answers(*part) for part in self._scored(batch)]
        if not parts:
            return Answers.none(len(batch))
        tracks, propensities, free = map(np.concatenate, zip(*(part[:3] for part in parts), strict=True))
        return Answers(tracks, propensities, free)

    def rank(self, batch: Batch, k: int) -> Ranking:
        parts = [
            best_of_candidates(self._top(*part, k), len(part[0]), k, self._catalogue) for part in self._scored(batch)
        ]
        return Ranking(*map(np.concatenate, zip(*parts, strict=True))) if parts else Ranking.none(len(batch), k)

    def because(self, batch: Batch, tracks: Ints) -> Ints:
        """Return of tracks liked before themselves; the value of others has no single cause."""
        return np.where(np.isin(tracks, likes_of(batch)[1]["track"]), tracks, NO_ANSWER)

    def _scored(self, batch: Batch) -> Iterator[tuple[Batch, SessionsSoFar, OfferedTracks]]:
        """Yield the batch, in parts if it is large, with what each is offered; nothing before the first snapshot."""
        factors = self._factors()
        if factors is None or not len(self._catalogue):
            return
        table = factors.table(self._catalogue)
        for first in range(0, len(batch), table.sessions_at_once):
            part = batch.select(np.arange(first, min(first + table.sessions_at_once, len(batch))))
            so_far = sessions_so_far(part, self._catalogue)
            liked = liked_before(part, so_far, self._catalogue, table.cosines)
            yield part, so_far, OfferedTracks(so_far, table, liked)

    def probability(self, batch: Batch, tracks: Ints) -> Floats:
        found, done = np.zeros(len(batch)), 0
        for part, so_far, offered in self._scored(batch):
            best, free = self._best(so_far, offered)
            at = np.arange(done, done := done + len(part))
            rows = self._catalogue.rows_of(tracks[at])
            heard = np.zeros(len(part), dtype=np.bool_)
            heard[so_far.session_of[so_far.heard == rows[so_far.session_of]]] = True
            found[at] = np.where((rows >= 0) & ~heard, _propensities(offered, rows, best, free), 0.0)
        return found

    def _best(self, so_far: SessionsSoFar, offered: OfferedTracks) -> tuple[Ints, Ints]:
        """Return the row of each session's best track, -1 without one, and how many tracks it may explore."""
        begun = so_far.valid[:, 0]
        rows, values, free = offered.best()
        best, free = np.where(begun, rows, -1), np.where(begun, free, 0)
        others = best_of_sessions(offered.others)
        better = others.where(others.scores > values[others.sessions])
        best[better.sessions] = better.rows
        return best, free

    def _answers(self, batch: Batch, so_far: SessionsSoFar, offered: OfferedTracks) -> Answers:
        best, free = self._best(so_far, offered)
        chosen, explores = best.copy(), (uniform(batch.keys, RandomStream.EXPLORE) < EXPLORE) & (free > 0)
        for session in np.flatnonzero(explores).tolist():
            drawn = integers(batch.keys[session : session + 1], RandomStream.EXPLORED_TRACK, int(free[session]))
            chosen[session] = offered.free_rows(session)[drawn[0]]
        there = chosen >= 0
        tracks = np.where(there, self._catalogue.tracks[chosen], NO_ANSWER)
        return Answers(tracks, np.where(there, _propensities(offered, chosen, best, free), 0.0), free)

    def _top(self, batch: Batch, so_far: SessionsSoFar, offered: OfferedTracks, k: int) -> Candidates:
        """Return the candidates of all sources; if few tracks pass a filter, all that do are of those offered."""
        passing = np.zeros(0, dtype=np.int64) if batch.allowed is None else np.flatnonzero(batch.allowed)
        if 0 < len(passing) <= MOST_VALUED:
            at, passing = np.repeat(np.arange(len(batch)), len(passing)), np.tile(passing, len(batch))
            best = Candidates(at, passing, offered.logits(at, passing).astype(np.float64)).where(so_far.valid[at, 0])
        else:
            at, rows, values = offered.top(k)
            best = Candidates(at, rows, values.astype(np.float64)).where(so_far.valid[at, 0])
        return unheard(Candidates.together(best, offered.others), so_far, self._catalogue)


def _propensities(offered: OfferedTracks, rows: Ints, best: Ints, free: Ints) -> Floats:
    """Return the probability of a row for each session; none of them was heard."""
    by_exploring = offered.offers(np.arange(len(rows)), rows) * (EXPLORE / np.maximum(free, 1))
    by_value: Floats = (rows == best) * np.where(free > 0, 1 - EXPLORE, 1.0)
    return by_exploring + by_value


def best_of_sessions(candidates: Candidates) -> Candidates:
    """Return each session's best candidate; ties go to the lowest row."""
    best = np.full(candidates.sessions.max(initial=-1) + 1, -np.inf)
    np.maximum.at(best, candidates.sessions, candidates.scores)
    candidates = candidates.where(candidates.scores == best[candidates.sessions])
    order = np.lexsort((candidates.rows, candidates.sessions))
    return candidates.where(order[np.diff(candidates.sessions[order], prepend=-1) != 0])
