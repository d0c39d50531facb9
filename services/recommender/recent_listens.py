"""What a listener heard last, the listen that the request brought included."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.events import RecommendationRequest
from services.recommender.lists import NO_TRACK
from services.recommender.protocol import Batch
from streams.folds.user_state import LISTEN, UserState


class RecentListens(NamedTuple):
    """The last listens of each listener of a batch, newest first.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n, count)
        `NO_TRACK` where there was no earlier listen.
    fractions : ndarray of float64, shape (n, count)
        0 there.
    """

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float64]


def has_seen(state: UserState | None, request: RecommendationRequest) -> bool:
    """Say whether the state has the listen that the request brought: the worker may be ahead of it or behind."""
    return state is not None and state.session_id == request.session_id and state.session_listens > request.position


def recent_listens(batch: Batch, count: int) -> RecentListens:
    """Gather the last `count` listens of each listener, across sessions.

    Examples
    --------
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 0.5, 0, 0)
    >>> recent_listens(Batch.of([request], [None]), 3).tracks.tolist()
    [[7, -1, -1]]
    """
    n = len(batch)
    tracks = np.full((n, count), NO_TRACK, dtype=np.int64)
    fractions = np.zeros((n, count))
    tracks[:, 0] = batch.tracks
    fractions[:, 0] = [request.fraction for request in batch.requests]
    # all histories at once: a look at each listener's own array would cost ten times as much
    most = count * LISTEN.itemsize
    histories = [state.history[-most:] if state is not None else b"" for state in batch.states]
    listens = np.frombuffer(b"".join(histories), dtype=LISTEN)
    lengths = np.array([len(history) // LISTEN.itemsize for history in histories], dtype=np.int64)
    rows = np.repeat(np.arange(n), lengths)
    ends = np.cumsum(lengths)
    ages = ends[rows] - 1 - np.arange(len(listens))
    unseen = [not has_seen(state, request) for state, request in zip(batch.states, batch.requests, strict=True)]
    slots = ages + np.array(unseen, dtype=np.int64)[rows]
    fit = slots < count
    tracks[rows[fit], slots[fit]] = listens["track"][fit]
    fractions[rows[fit], slots[fit]] = listens["fraction"][fit]
    return RecentListens(tracks, fractions)
