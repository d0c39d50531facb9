"""Sessions as the learner sees them: open ones, finished ones, and finished ones padded to one length.

A session is finished when a listen ends it, when its listener's next listen belongs to another session, or after
`GAP_MS` of event time without a listen: a listener who comes once ends nothing. Of the others, the oldest are finished
once there are more than `MOST_SESSIONS`.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.schemas.training import TrainingColumns
from botify.streams.folds.sessions import GAP_MS
from botify.streams.learner.models.tables import pack, unpack


class FinishedSession(NamedTuple):
    """A finished session."""

    tracks: NDArray[np.int64]  # shape (n,): in order; the first is the listener's own choice
    fractions: NDArray[np.float32]  # shape (n,)


class Padded(NamedTuple):
    """Sessions in rows; cells past the end of a session are 0 and not valid."""

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float32]
    valid: NDArray[np.bool_]


def pad(sessions: Sequence[FinishedSession]) -> Padded:
    """Pad sessions to one length; all of shape (number of sessions, length of the longest).

    Examples
    --------
    >>> short = FinishedSession(np.array([7]), np.array([1.0], dtype=np.float32))
    >>> long = FinishedSession(np.array([8, 9]), np.array([1.0, 0.5], dtype=np.float32))
    >>> pad([short, long]).valid.tolist()
    [[True, False], [True, True]]
    """
    lengths = np.array([len(session.tracks) for session in sessions])
    valid = np.arange(lengths.max(initial=0)) < lengths[:, None]
    tracks = np.zeros(valid.shape, dtype=np.int64)
    fractions = np.zeros(valid.shape, dtype=np.float32)
    tracks[valid] = np.concatenate([session.tracks for session in sessions])
    fractions[valid] = np.concatenate([session.fractions for session in sessions])
    return Padded(tracks, fractions, valid)


def joined(sessions: Sequence[tuple[Sequence[int], Sequence[float]]]) -> dict[str, NDArray[Any]]:
    """Return the sessions' lengths, and all their tracks and fractions in order; `cut` is the inverse."""
    return {
        "lengths": np.array([len(tracks) for tracks, _ in sessions], dtype=np.int32),
        "tracks": np.array([track for tracks, _ in sessions for track in tracks], dtype=np.int32),
        "fractions": np.array([fraction for _, fractions in sessions for fraction in fractions], dtype=np.float32),
    }


def cut(arrays: Mapping[str, NDArray[Any]]) -> list[FinishedSession]:
    """Split what `joined` returned into sessions."""
    ends = np.cumsum(arrays["lengths"])[:-1]
    if not len(arrays["lengths"]):
        return []
    tracks, fractions = np.split(arrays["tracks"].astype(np.int64), ends), np.split(arrays["fractions"], ends)
    return [FinishedSession(*session) for session in zip(tracks, fractions, strict=True)]


MOST_LISTENS = 64  # kept of a session; later listens are not learned from
MOST_SESSIONS = 200_000  # open at a time; beyond it, a tenth of them is finished
LOOK_MS = GAP_MS // 10  # of event time between two looks for idle sessions: each costs a pass over all


@dataclass(slots=True, eq=False)
class _Open:
    session: int
    last_ms: int
    tracks: array[int]
    fractions: array[float]

    def finished(self) -> FinishedSession:
        return FinishedSession(np.array(self.tracks, dtype=np.int64), np.array(self.fractions, dtype=np.float32))


class OpenSessions:
    """One session a listener; `end_idle` leaves at most `most`.

    A session that continues after its end is two; so may be one of a partition that lags behind others by `GAP_MS`.

    Examples
    --------
    >>> from botify.schemas.events import Listen
    >>> from botify.schemas.training import listens_of, training_batch_of
    >>> heard = [Listen("a:0", 42, 7, 0.5, 1000, "a", 0, False, None, {}, None, None),
    ...          Listen("a:1", 42, 8, 1.0, 1000, "a", 1, True, None, {}, None, None)]
    >>> batch = training_batch_of("id", 0, 0, 2, list(enumerate(heard)))
    >>> [session.tracks.tolist() for session in OpenSessions().fold(listens_of(batch, b""))]
    [[7, 8]]
    """

    def __init__(self, most: int = MOST_SESSIONS) -> None:
        self._most = most
        self._open: dict[int, _Open] = {}
        self._newest_ms = self._looked_ms = 0  # of all listens; at the last look for idle sessions

    def __len__(self) -> int:
        return len(self._open)

    def fold(self, listens: TrainingColumns) -> list[FinishedSession]:
        """Take listens in, and return the sessions that are over, in the order of their ends."""
        over: list[FinishedSession] = []
        opened = self._open
        names = ("users", "sessions", "tracks", "fractions", "timestamps_ms", "ended")
        rows = zip(*(getattr(listens, name).tolist() for name in names), strict=True)
        for user, session, track, fraction, timestamp_ms, ended in rows:
            heard = opened.get(user)
            if heard is not None and heard.session != session:
                over.append(opened.pop(user).finished())
                heard = None
            if heard is None:
                opened[user] = _Open(session, timestamp_ms, array("i", [track]), array("f", [fraction]))
            else:
                if len(heard.tracks) < MOST_LISTENS:
                    heard.tracks.append(track)
                    heard.fractions.append(fraction)
                if timestamp_ms > heard.last_ms:
                    heard.last_ms = timestamp_ms
            if ended:
                over.append(opened.pop(user).finished())
        self._newest_ms = max(self._newest_ms, int(listens.timestamps_ms.max(initial=0)))
        return over

    def end_idle(self) -> list[FinishedSession]:
        """Finish idle sessions, and if there are too many still, the oldest but nine tenths of `most`; by age."""
        over: list[FinishedSession] = []
        if self._newest_ms - self._looked_ms >= LOOK_MS:
            self._looked_ms = self._newest_ms
            over = self._end([user for user, one in self._open.items() if one.last_ms + GAP_MS < self._newest_ms])
        if len(self) > self._most:
            over += self._end(list(self._open), len(self) - self._most * 9 // 10)
        return over

    def _end(self, users: list[int], most: int | None = None) -> list[FinishedSession]:
        users.sort(key=lambda user: (self._open[user].last_ms, user))
        return [self._open.pop(user).finished() for user in users[:most]]

    def to_bytes(self) -> bytes:
        """Return the sessions, in the order in which they began."""
        sessions = self._open.values()
        arrays = {
            "users": np.array(list(self._open), dtype=np.int64),
            "sessions": np.array([one.session for one in sessions], dtype=np.uint64),
            "last_ms": np.array([one.last_ms for one in sessions], dtype=np.int64),
            **joined([(one.tracks, one.fractions) for one in sessions]),
        }
        return pack({"newest_ms": self._newest_ms, "looked_ms": self._looked_ms}, arrays)

    @classmethod
    def from_bytes(cls, state: bytes) -> OpenSessions:
        about, arrays = unpack(state)
        restored = cls()
        restored._newest_ms, restored._looked_ms = about["newest_ms"], about["looked_ms"]
        rows = zip(*(arrays[name].tolist() for name in ("users", "sessions", "last_ms")), cut(arrays), strict=True)
        for user, session, last_ms, (tracks, fractions) in rows:
            restored._open[user] = _Open(session, last_ms, array("i", tracks.tolist()), array("f", fractions.tolist()))
        return restored
