"""Candidates of many sessions in one flat list, and what is done with such lists."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from core.keyed_random import Keys, uniform
from services.recommender.catalogue import Catalogue
from services.recommender.protocol import NO_ANSWER, Answers
from services.recommender.sessions import SessionsSoFar
from streams.learner.models.taste import ARTIST_DISCOUNT

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Candidates(NamedTuple):
    """Tracks that sessions might be offered; all of shape (m,).

    Attributes
    ----------
    sessions : ndarray of int64
        Which of the batch.
    rows : ndarray of int64
        The catalogue's row.
    scores : ndarray of float64
        The higher, the better; by whatever measure.
    """

    sessions: Ints
    rows: Ints
    scores: Floats

    def where(self, chosen: NDArray[np.bool_ | np.int64]) -> Candidates:
        """Return some of them, chosen by a mask or in a given order."""
        return Candidates(self.sessions[chosen], self.rows[chosen], self.scores[chosen])

    @classmethod
    def together(cls, *parts: Candidates) -> Candidates:
        """Put several lists into one."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def earlier_of_artists(sessions: Ints, rows: Ints, so_far: SessionsSoFar, catalogue: Catalogue) -> Ints:
    """Count what each session has heard of the artist of a track; shape (m,) like `sessions` and `rows`."""
    artists = max(len(catalogue.artists), 1)
    heard, counts = np.unique(so_far.session_of * artists + catalogue.artist_of[so_far.heard], return_counts=True)
    if not len(heard):
        return np.zeros(len(rows), dtype=np.int64)
    wanted = sessions * artists + catalogue.artist_of[rows]
    at = np.minimum(np.searchsorted(heard, wanted), len(heard) - 1)
    return np.where(heard[at] == wanted, counts[at], 0)


def not_heard(candidates: Candidates, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Leave out what the session has had."""
    tracks = len(catalogue)
    heard = np.sort(so_far.session_of * tracks + so_far.heard)
    if not len(heard):
        return candidates
    wanted = candidates.sessions * tracks + candidates.rows
    at = np.minimum(np.searchsorted(heard, wanted), len(heard) - 1)
    return candidates.where(heard[at] != wanted)


def unheard(candidates: Candidates, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Leave out what the session has had, and of a track that is there twice all but the best; by session and row."""
    candidates = not_heard(candidates, so_far, catalogue)
    wanted = candidates.sessions * max(len(catalogue), 1) + candidates.rows
    order = np.lexsort((-candidates.scores, wanted))
    return candidates.where(order[np.diff(wanted[order], prepend=-1) != 0])


def discounted(candidates: Candidates, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Multiply the scores by γ to the number of the session's listens of the artist."""
    earlier = earlier_of_artists(candidates.sessions, candidates.rows, so_far, catalogue)
    return candidates._replace(scores=candidates.scores * ARTIST_DISCOUNT**earlier)


def best_of_sessions(candidates: Candidates) -> Candidates:
    """Return each session's best candidate; of equals, the lowest row."""
    order = np.lexsort((candidates.rows, -candidates.scores, candidates.sessions))
    first = np.diff(candidates.sessions[order], prepend=-1) != 0
    return candidates.where(order[first])


def draw_from_best(candidates: Candidates, keys: Keys, stream: int, most: int, catalogue: Catalogue) -> Answers:
    """Draw one of each session's `most` best candidates, all alike.

    Parameters
    ----------
    candidates : Candidates
        No track twice in a session.
    keys : ndarray of uint64, shape (b,)
    stream : int
        Random stream of the keys.
    most : int
    catalogue : Catalogue

    Examples
    --------
    >>> from schemas.events import Track
    >>> from core.keyed_random import mix
    >>> catalogue = Catalogue([Track(id_, "a", None, None, "x") for id_ in (7, 8, 9)])
    >>> some = Candidates(np.array([1, 1]), np.array([0, 2]), np.array([0.1, 0.9]))
    >>> draw_from_best(some, mix(1, [0, 1]), 0, 1, catalogue).tracks.tolist()
    [-1, 9]
    """
    b = len(keys)
    order = np.lexsort((candidates.rows, -candidates.scores, candidates.sessions))
    sizes = np.bincount(candidates.sessions, minlength=b)
    starts = np.cumsum(sizes) - sizes
    free = np.minimum(sizes, most)
    drawn = starts + (uniform(keys, stream) * free).astype(np.int64)
    tracks = np.full(b, NO_ANSWER, dtype=np.int64)
    there = free > 0
    tracks[there] = catalogue.tracks[candidates.rows[order[drawn[there]]]]
    propensities = np.divide(1.0, free, out=np.zeros(b), where=there)
    return Answers(tracks, propensities, sizes)
