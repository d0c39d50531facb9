"""The listens of the requesting sessions: from Redis, and from requests that the worker has not folded yet.

A request carries the last listen. The state has it and those before it only if the worker was faster than the
listener. All requests of a listener arrive at the same member of the group, so `PendingListens` completes the state
from the session's earlier requests, and an answer does not depend on the worker's lag. After a rebalance the new member
has no earlier requests and uses the state alone.

An answer says what it was computed from, so that `botify why` can compute it again from the topics (`Seen`).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import getsizeof
from typing import NamedTuple

import mmh3
import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import RecommendationRequest
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.protocol import Batch, Ints
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import HISTORY_LISTENS, LISTEN, UserState, hash_of

Floats = NDArray[np.float32]

WINDOW = HISTORY_LISTENS
"""Number of listens with fractions: the first one and the last ones, whose fractions the state has."""
_TRACK = struct.Struct("<i")
_LISTEN = struct.Struct("<8xqdi")  # the layout of `LISTEN`, of which time, fraction and track matter here


def freshness_of(request: RecommendationRequest, state: UserState | None) -> int:
    """Return how many listens of the request's session the state has."""
    return state.session_listens if state is not None and state.session_id == request.session_id else 0


def has_seen(state: UserState | None, request: RecommendationRequest) -> bool:
    """Return whether the state has the request's listen; the worker may be ahead of the request or behind it."""
    return freshness_of(request, state) > request.position


@dataclass(frozen=True, slots=True)
class SessionsSoFar:
    """Sessions of a batch of b requests; m listens in all of them together, of tracks that are in the catalogue."""

    # session_of, heard: shape (m,): all listens by session and in order: the session's index, and the track's row
    session_of: Ints
    heard: Ints
    seed_tracks: Ints  # shape (b,): the row of the first track
    # rows, fractions, valid: shape (b, WINDOW): the first listen and the last ones; 0 where not valid
    rows: Ints
    fractions: Floats
    valid: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.seed_tracks)

    def last(self) -> Ints:
        """Return the column of each session's last listen; 0 for a session without listens."""
        lengths: Ints = self.valid.sum(axis=1)
        return np.maximum(lengths - 1, 0)


def sessions_so_far(batch: Batch, catalogue: Catalogue) -> SessionsSoFar:
    """Gather the sessions."""
    tracks, fractions, lengths = _concatenated(batch)
    rows = catalogue.rows_of(tracks)
    session_of = np.repeat(np.arange(len(batch)), lengths)
    if (rows < 0).any():
        known = rows >= 0
        rows, fractions, session_of = rows[known], fractions[known], session_of[known]
        lengths = np.bincount(session_of, minlength=len(batch))
    starts = np.cumsum(lengths) - lengths
    column = np.arange(WINDOW)
    skipped = np.maximum(lengths - WINDOW, 0)[:, None]
    valid = column < lengths[:, None]
    at = np.where(valid, starts[:, None] + column + np.where(column > 0, skipped, 0), 0)
    if not len(rows):
        nothing = np.zeros((len(batch), WINDOW), dtype=np.float32)
        return SessionsSoFar(session_of, rows, starts * 0 - 1, at, nothing, valid)
    return SessionsSoFar(
        session_of,
        rows,
        np.where(lengths > 0, rows[np.minimum(starts, len(rows) - 1)], -1),
        rows[at] * valid,
        fractions[at] * valid,
        valid,
    )


def _concatenated(batch: Batch) -> tuple[Ints, Floats, Ints]:
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


class Histories(NamedTuple):
    """What each listener of a batch of b requests heard, oldest first, one after another; m listens in all."""

    tracks: Ints
    # fractions, times_ms: 0 where the state has the track of a listen and no longer the rest
    fractions: NDArray[np.float64]
    times_ms: Ints
    lengths: Ints  # shape (b,), as `asked_ms`
    asked_ms: Ints

    def contain(self, tracks: Ints) -> NDArray[np.bool_]:
        """Return which listener heard which of n different tracks in rising order, shape (b, n)."""
        heard = np.zeros((len(self.lengths), len(tracks)), dtype=np.bool_)
        at = np.flatnonzero(np.isin(self.tracks, tracks))
        heard[np.repeat(np.arange(len(heard)), self.lengths)[at], np.searchsorted(tracks, self.tracks[at])] = True
        return heard


def histories_of(batch: Batch) -> Histories:
    """Gather the histories."""
    parts: list[bytes] = []
    lengths = []
    for request, state in zip(batch.requests, batch.states, strict=True):
        size = 0
        if state is not None:
            kept = len(state.history) // LISTEN.itemsize
            # tracks of the session from before the last listens: they only exclude
            for track in state.session_tracks()[: max(0, state.session_listens - kept)].tolist():
                parts.append(_LISTEN.pack(0, 0.0, track))
                size += 1
            parts.append(state.history)
            size += kept
        if not has_seen(state, request):
            parts.append(_LISTEN.pack(request.timestamp_ms, request.fraction, request.track))
            size += 1
        lengths.append(size)
    listens = np.frombuffer(b"".join(parts), dtype=LISTEN)
    asked_ms = [request.timestamp_ms for request in batch.requests]
    return Histories(
        listens["track"].astype(np.int64),
        listens["fraction"],
        listens["timestamp_ms"],
        np.array(lengths, dtype=np.int64),
        np.array(asked_ms, dtype=np.int64),
    )


def recent_listens(batch: Batch, count: int) -> tuple[Ints, NDArray[np.float64]]:
    """Return tracks and fractions of the last `count` listens of each listener, the newest first; shape (n, count).

    The track is -1 where there are fewer.
    """
    heard = histories_of(batch)
    places = np.arange(count)
    there = places < heard.lengths[:, None]
    at = np.where(there, np.cumsum(heard.lengths)[:, None] - 1 - places, 0)
    return np.where(there, heard.tracks[at], -1), np.where(there, heard.fractions[at], 0.0)


REQUESTS = 32  # number of last requests kept per session; a worker that is further behind has stopped
PENDING_BYTES = 64 * 1024 * 1024
"""Of all listeners together, 45,000 of them with `REQUESTS`; those who asked last are kept."""
_EARLIER = struct.Struct("<8sqdii")  # hash of the request's id, time, fraction, track, position
_POSITION = struct.Struct("<i")
_REQUEST_BYTES, _LISTENER_BYTES = 9 * _EARLIER.size // 8, 280  # of an array with an eighth to spare, and of all else
_Known = tuple[str, bytearray]


class PendingListens:
    """The last requests of each listener's session, in a cache of two generations.

    A full young generation becomes the old one, which is forgotten. A listener who was forgotten is answered from the
    state alone, as after a rebalance.

    Examples
    --------
    >>> pending = PendingListens()
    >>> first, second = (RecommendationRequest(f"s-{at}", 42, "s", at, 7 + at, 1.0, 0, 0) for at in (0, 1))
    >>> pending.completed([first], [None])
    [None]
    >>> (state,) = pending.completed([second], [None])  # the worker has not folded the first one yet
    >>> state.session_tracks().tolist()
    [7]
    """

    def __init__(self) -> None:
        # of each listener the session's id, and `_EARLIER` of each request
        self._young: dict[int, _Known] = {}
        self._old: dict[int, _Known] = {}
        self._bytes = 0  # of the young

    def completed(
        self, requests: Sequence[RecommendationRequest], states: Sequence[UserState | None]
    ) -> list[UserState | None]:
        """Fold the listens of earlier requests into the states, return these, and remember the requests.

        The recommenders add the listen of the request itself. A state that lacks listens is changed in place.
        """
        return [
            self._complete(request, state) if request.has_listen else state
            for request, state in zip(requests, states, strict=True)
        ]

    def _complete(self, request: RecommendationRequest, state: UserState | None) -> UserState | None:
        id_, user, session_id, position, track, fraction, timestamp_ms = request[:7]
        known = self._young.get(user)
        if known is None or known[0] != session_id:
            known = None if known is not None else self._old.get(user)
            if known is None or known[0] != session_id:
                known = session_id, bytearray()
            self._young[user] = known
            self._bytes += _LISTENER_BYTES + getsizeof(session_id) + len(known[1])
        earlier = known[1]
        last = _POSITION.unpack_from(earlier, len(earlier) - _POSITION.size)[0] if earlier else -1
        heard = freshness_of(request, state)
        if heard <= last:
            for event, at_ms, share, heard_track, at in _EARLIER.iter_unpack(earlier):
                if heard <= at < position:
                    state = state or UserState()
                    state.fold_listen(event, heard_track, share, at_ms, session_id)
        if position > last:
            earlier += _EARLIER.pack(hash_of(id_), timestamp_ms, fraction, track, position)
            self._bytes += _REQUEST_BYTES
            del earlier[: -REQUESTS * _EARLIER.size]
            if self._bytes > PENDING_BYTES // 2:
                self._old, self._young, self._bytes = self._young, {}, 0
        return state


def listens_of(states: Sequence[UserState | None]) -> list[int]:
    """Return the number of listens that each state has folded, 0 for no state."""
    return [0 if state is None else state.listens for state in states]


def hash_of_state(state: UserState | None) -> int:
    """Return 32 bits of all that a recommender sees of a state; 0 without one."""
    if state is None:
        return 0
    session = b"%d %s\0" % (state.session_listens, state.session_id.encode())
    return _hash_of(session + state.heard + state.history)


def hash_of_likes(likes: Likes | None) -> int:
    """Return 32 bits of all that a recommender sees of likes; 0 without any."""
    return _hash_of(likes.packed) if likes is not None and likes.packed else 0


def _hash_of(packed: bytes) -> int:
    return int(mmh3.hash64(packed)[0]) >> 32  # twice as fast as the hash of 32 bits


class Seen(NamedTuple):
    """What answers say of their inputs: the last fields of `Recommendation`, a column each.

    The request is on its topic. The listener's state is the fold of the first `listens` of the listener's listens, and
    of `pending` more from earlier requests; likes and opinions were read next to it, and may be of a moment earlier or
    later: the hashes say which. Models, clusters and catalogue are named by version and digest.
    """

    asked: Sequence[str]
    listens: Sequence[int]
    pending: Sequence[int]
    state_hashes: Sequence[int]
    likes_hashes: Sequence[int]
    versions: Sequence[Mapping[str, str]]

    @classmethod
    def of(cls, batch: Batch, asked: Sequence[str], listens: Sequence[int], versions: Mapping[str, str]) -> Seen:
        """Return the columns of a batch, whose states had `listens` before they were completed."""
        pending = [now - then for now, then in zip(listens_of(batch.states), listens, strict=True)]
        states, likes = list(map(hash_of_state, batch.states)), list(map(hash_of_likes, batch.likes))
        return cls(asked, listens, pending, states, likes, [versions] * len(batch))
