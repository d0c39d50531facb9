"""The sessions that ask, as arrays: everything heard in them, and a closer look at their first and last listens.

A request may come before the worker has folded the listen that it carries. What the state lacks of the session is
added from the request, so an answer does not depend on who was faster.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.recommender.catalogue import Catalogue
from services.recommender.protocol import Batch
from services.recommender.recent_listens import has_seen
from streams.folds.user_state import HISTORY_LISTENS, LISTEN
from streams.learner.models.taste import evidence_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]

WINDOW = HISTORY_LISTENS
"""Listens that are looked at closely: the first, and the last ones, whose fractions the state has."""
_TRACK = struct.Struct("<i")


@dataclass(frozen=True, slots=True)
class SessionsSoFar:
    """Sessions of a batch of b requests; m listens in all of them together.

    Attributes
    ----------
    session_of, heard : ndarray of int64, shape (m,)
        All listens, session by session and in order: whose, and the catalogue's row of the track.
    anchors : ndarray of int64, shape (b,)
        Row of the first track.
    rows : ndarray of int64, shape (b, WINDOW)
        The first listen and the last ones; 0 where `valid` is not.
    liking, evidence : ndarray of float32, shape (b, WINDOW)
        See `streams.learner.models.taste`.
    valid : ndarray of bool, shape (b, WINDOW)
        A session begins at column 0. Tracks that are not in the catalogue are left out of everything.
    """

    session_of: Ints
    heard: Ints
    anchors: Ints
    rows: Ints
    liking: Floats
    evidence: Floats
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.anchors)

    def last(self) -> Ints:
        """Return the column of each session's last listen; 0 for one without."""
        lengths: Ints = self.valid.sum(axis=1)
        return np.maximum(lengths - 1, 0)


def sessions_so_far(batch: Batch, catalogue: Catalogue) -> SessionsSoFar:
    """Gather the sessions.

    Examples
    --------
    >>> from schemas.events import RecommendationRequest, Track
    >>> request = RecommendationRequest("s-0", 42, "s", 0, 7, 1.0, 0, 0)
    >>> so_far = sessions_so_far(Batch.of([request], [None]), Catalogue([Track(7, "a", None, None, "x")]))
    >>> so_far.heard.tolist(), so_far.liking[0, :2].tolist(), so_far.valid[0, :2].tolist()
    ([0], [1.0, 0.0], [True, False])
    """
    tracks, fractions, lengths = _flat(batch)
    rows = catalogue.rows_of(tracks)
    session_of = np.repeat(np.arange(len(batch)), lengths)
    if (rows < 0).any():
        known = rows >= 0
        rows, fractions, session_of = rows[known], fractions[known], session_of[known]
        lengths = np.bincount(session_of, minlength=len(batch))
    starts = np.cumsum(lengths) - lengths
    earlier = _earlier_of_artist(session_of * max(len(catalogue.artists), 1) + catalogue.artist_of[rows])
    column = np.arange(WINDOW)
    skipped = np.maximum(lengths - WINDOW, 0)[:, None]
    valid = column < lengths[:, None]
    at = np.where(valid, starts[:, None] + column + np.where(column > 0, skipped, 0), 0)
    if not len(rows):
        nothing = np.zeros((len(batch), WINDOW), dtype=np.float32)
        return SessionsSoFar(session_of, rows, starts * 0 - 1, at, nothing, nothing, valid)
    evidence = evidence_of(earlier[at])
    liking = np.minimum(fractions[at] / np.maximum(evidence, np.float32(1e-6)), np.float32(1))
    return SessionsSoFar(
        session_of,
        rows,
        np.where(lengths > 0, rows[np.minimum(starts, len(rows) - 1)], -1),
        rows[at] * valid,
        liking * valid,
        evidence * valid,
        valid,
    )


def _flat(batch: Batch) -> tuple[Ints, Floats, Ints]:
    """Return all listens of the sessions one after another: track ids, fractions, and the sessions' lengths.

    A fraction that the state does not have any more is 1; of those only the first listen's, which is 1, is looked at.
    """
    heard, histories, lengths, of_state, current = [], [], [], [], []
    for request, state in zip(batch.requests, batch.states, strict=True):
        tracks = b""
        if state is not None and state.session_id == request.session_id:
            tracks = state.heard
            histories.append(state.history[-LISTEN.itemsize * min(len(tracks) // _TRACK.size, HISTORY_LISTENS) :])
        else:
            histories.append(b"")
        of_state.append(len(tracks) // _TRACK.size)
        if not has_seen(state, request):
            tracks += _TRACK.pack(request.track)
            current.append(request.fraction)
        lengths.append(len(tracks) // _TRACK.size)
        heard.append(tracks)
    sizes = np.array(lengths, dtype=np.int64)
    ends = np.cumsum(sizes)
    flat = np.frombuffer(b"".join(heard), dtype="<i4").astype(np.int64)
    fractions = np.ones(len(flat), dtype=np.float32)
    known = np.array(of_state, dtype=np.int64)
    remembered = np.array([len(history) // LISTEN.itemsize for history in histories], dtype=np.int64)
    places = np.repeat(ends - sizes + known - np.cumsum(remembered), remembered) + np.arange(remembered.sum())
    fractions[places] = np.frombuffer(b"".join(histories), dtype=LISTEN)["fraction"]
    fractions[ends[known < sizes] - 1] = current
    return flat, fractions, sizes


def _earlier_of_artist(keys: Ints) -> Ints:
    """Count, for each listen, the earlier ones with the same key (session and artist)."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-1))
    counts = np.empty(len(keys), dtype=np.int64)
    counts[order] = np.arange(len(keys)) - np.repeat(first, np.diff(first, append=len(keys)))
    return counts
