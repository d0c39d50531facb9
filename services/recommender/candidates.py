"""Candidates of many sessions in one flat list: their sources, and how they are filtered and ranked."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

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
    return candidates.where(~_are_heard(candidates.sessions, candidates.rows, so_far, catalogue))


def _are_heard(sessions: Ints, rows: Ints, so_far: SessionsSoFar, catalogue: Catalogue) -> NDArray[np.bool_]:
    """Return which tracks their session has heard, shape (m,)."""
    heard = np.sort(so_far.session_of * len(catalogue) + so_far.heard)
    return places_of(heard, sessions * len(catalogue) + rows)[1]


def places_of(keys: Ints, wanted: Ints) -> tuple[Ints, NDArray[np.bool_]]:
    """Return where each number wanted is among rising ones, and which of them are there."""
    at = np.searchsorted(keys, wanted)
    return at, np.append(keys, -1)[at] == wanted


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


SAME_TRACK, MOST_ALIKE = 5.0, 3.5  # log odds that sessions are after the same: by the first tracks
STEEP, HALF = 14.0, 0.31  # of the cosine of the first tracks' vectors
AGREES, DIFFERS = 2.0, 8.0  # of the fractions of a track heard in both
LEAST_ALIKE = 0.005  # probability below which a session is not looked at
_NO_LIKES = np.zeros(0, dtype=LIKE)


class Liked(NamedTuple):
    """Tracks that listeners liked in earlier sessions; shape (m,), by session of the batch.

    `sessions` and `rows` are as those of `Candidates`, `fractions` what was heard then, `first` is whether that session
    began with the track, and `alike` the probability that it was after the same as the listener's session now.
    """

    sessions: Ints
    rows: Ints
    fractions: Floats
    first: NDArray[np.bool_]
    alike: Floats


def likes_of(batch: Batch) -> tuple[Ints, NDArray[np.void]]:
    """Return what all listeners liked, in this session too, and whose each like is; both of shape (m,)."""
    of_users = [_NO_LIKES if likes is None else likes.all() for likes in batch.likes]
    sessions = np.repeat(np.arange(len(batch)), list(map(len, of_users)))
    return sessions, np.frombuffer(b"".join(one.data for one in of_users), dtype=LIKE)


def liked_before(
    batch: Batch, so_far: SessionsSoFar, catalogue: Catalogue, cosines: Callable[[Ints, Ints], Floats]
) -> Liked:
    """Return what each listener liked in sessions that may be alike, and has not heard in this one; may repeat.

    Sessions are after the same with log odds of `STEEP` · (c − `HALF`), at most `MOST_ALIKE`, where c is the cosine of
    the vectors of their first tracks, or `SAME_TRACK` if they began with the same track. Each track heard in both adds
    `AGREES`, less `DIFFERS` times the difference of its fractions. `cosines` are those of pairs of rows.
    """
    sessions, likes = likes_of(batch)
    both = catalogue.rows_of(np.concatenate([likes["track"], likes["seed_track"]]).astype(np.int64))
    rows, then, now = both[: len(likes)], both[len(likes) :], so_far.seed_tracks[sessions]
    known = np.flatnonzero((rows >= 0) & (then >= 0) & (now >= 0))
    sessions, rows, then, now = sessions[known], rows[known], then[known], now[known]
    fractions = likes["fraction"][known].astype(np.float64)
    starts = np.flatnonzero((np.diff(sessions, prepend=-1) != 0) | (np.diff(then, prepend=-1) != 0))
    odds = np.minimum(STEEP * (cosines(then[starts], now[starts]) - HALF), MOST_ALIKE)
    odds[then[starts] == now[starts]] = SAME_TRACK
    difference = np.abs(_fractions(so_far, sessions, rows, len(catalogue)) - fractions)
    odds += np.add.reduceat(np.where(np.isnan(difference), 0.0, AGREES - DIFFERS * difference), starts)
    alike = np.repeat(expit(odds), np.diff(starts, append=len(rows)))
    of_use = (alike >= LEAST_ALIKE) & ~_are_heard(sessions, rows, so_far, catalogue)
    return Liked._make(column[of_use] for column in (sessions, rows, fractions, rows == then, alike))


def _fractions(so_far: SessionsSoFar, sessions: Ints, rows: Ints, tracks: int) -> Floats:
    """Return to which fraction sessions heard tracks, nan if they did not or it is not known any more; shape (m,)."""
    session, column = np.nonzero(so_far.valid)
    keys = session * tracks + so_far.rows[session, column]
    order = np.argsort(keys, kind="stable")  # of a track heard twice the first time, whoever else is in the batch
    at, there = places_of(keys[order], sessions * tracks + rows)
    fractions = np.append(so_far.fractions[session, column][order], np.nan)
    return np.where(there, fractions[at], np.nan)


def most_of(shares: Floats, tracks: Ints) -> Ints:
    """Return which of m tracks has the largest share in each of n others, `NO_ANSWER` where none has any."""
    if not len(tracks):
        return np.full(shares.shape[1], NO_ANSWER)
    return np.where(shares.max(axis=0) > 0, tracks[shares.argmax(axis=0)], NO_ANSWER)
