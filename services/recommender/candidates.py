"""Candidates of many sessions in one flat list: their sources, and how they are filtered and ranked."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.services.recommender.catalogue import Catalogue, Integers
from botify.services.recommender.protocol import NO_ANSWER, Batch, Floats, Ints, Ranking
from botify.services.recommender.sessions import SessionsSoFar
from botify.streams.folds.likes import LIKE


class Candidates(NamedTuple):
    """Tracks that could be recommended: the session's index in the batch, the catalogue's row, and a score; shape (m,).

    A higher score is better, on the scale of the source.
    """

    sessions: Ints
    rows: Ints
    scores: Floats

    def where(self, chosen: NDArray[np.bool_ | np.int64]) -> Candidates:
        """Return those selected by a mask or by indices."""
        return Candidates(self.sessions[chosen], self.rows[chosen], self.scores[chosen])

    @classmethod
    def together(cls, *parts: Candidates) -> Candidates:
        return cls(*map(np.concatenate, zip(*parts, strict=True)))


def tracks_of(sessions: Ints, artists: Integers, scores: Floats, catalogue: Catalogue) -> Candidates:
    """Return all tracks of some artists, each with its artist's score; all of shape (m,)."""
    sizes = catalogue.artist_size[artists]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    rows = catalogue.by_artist[np.repeat(catalogue.artist_start[artists], sizes) + within].astype(np.int64)
    return Candidates(np.repeat(sessions, sizes), rows, np.repeat(scores, sizes))


def not_heard(candidates: Candidates, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Remove tracks that the session has heard."""
    tracks = len(catalogue)
    heard = np.sort(so_far.session_of * tracks + so_far.heard)
    if not len(heard):
        return candidates
    wanted = candidates.sessions * tracks + candidates.rows
    at = np.minimum(np.searchsorted(heard, wanted), len(heard) - 1)
    return candidates.where(heard[at] != wanted)


def unheard(candidates: Candidates, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Remove heard tracks, and of duplicates all but the best; ordered by session and row."""
    candidates = not_heard(candidates, so_far, catalogue)
    wanted = candidates.sessions * max(len(catalogue), 1) + candidates.rows
    order = np.lexsort((-candidates.scores, wanted))
    return candidates.where(order[np.diff(wanted[order], prepend=-1) != 0])


def best_of_candidates(candidates: Candidates, size: int, k: int, catalogue: Catalogue) -> Ranking:
    """Return the k best candidates of `size` sessions, which have no duplicates; ties go to the lowest row."""
    ranking = Ranking.none(size, k)
    order = np.lexsort((candidates.rows, -candidates.scores, candidates.sessions))
    sessions = candidates.sessions[order]
    sizes = np.bincount(sessions, minlength=size)
    places = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    first = places < k
    at = sessions[first], places[first]
    ranking.tracks[at] = catalogue.tracks[candidates.rows[order[first]]]
    ranking.scores[at] = candidates.scores[order[first]]
    return ranking


SAME_TRACK, SAME_ARTIST, OTHER = 1.0, 0.9, 0.3  # the match: what a like's session began with
_NO_LIKES = np.zeros(0, dtype=LIKE)


def liked_before(batch: Batch, so_far: SessionsSoFar, catalogue: Catalogue) -> Candidates:
    """Return the tracks that each listener liked, scored by fraction and match; may contain duplicates."""
    of_users = [_NO_LIKES if likes is None else likes.all() for likes in batch.likes]
    likes = np.frombuffer(b"".join(one.data for one in of_users), dtype=LIKE)
    sessions = np.repeat(np.arange(len(batch)), [len(likes) for likes in of_users])
    both = catalogue.rows_of(np.concatenate([likes["track"], likes["seed_track"]]).astype(np.int64))
    rows, then = both[: len(likes)], both[len(likes) :]
    now = so_far.seed_tracks[sessions]
    known = (rows >= 0) & (then >= 0) & (now >= 0)
    rows, then, now = rows[known], then[known], now[known]
    of_artist = catalogue.artist_of[then] == catalogue.artist_of[now]
    match = np.select([then == now, of_artist], [SAME_TRACK, SAME_ARTIST], OTHER)
    return Candidates(sessions[known], rows, likes["fraction"][known] * match)


def most_of(shares: Floats, tracks: Ints) -> Ints:
    """Return which of m tracks has the largest share in each of n others, `NO_ANSWER` where none has any."""
    if not len(tracks):
        return np.full(shares.shape[1], NO_ANSWER)
    return np.where(shares.max(axis=0) > 0, tracks[shares.argmax(axis=0)], NO_ANSWER)
