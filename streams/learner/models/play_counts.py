"""Model `play-counts`: how often each track was heard, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.learner.model import HeardSession

_ROW = np.dtype([("track", "<i8"), ("listens", "<i8"), ("time", "<f8")])


class PlayCounts:
    """Sums over sessions.

    Examples
    --------
    >>> model = PlayCounts()
    >>> model.learn([HeardSession(42, np.array([7, 8, 7]), np.array([1.0, 0.5, 0.5], dtype=np.float32))])
    >>> np.frombuffer(model.snapshot(), _ROW).tolist()
    [(7, 2, 1.5), (8, 1, 0.5)]
    """

    name = "play-counts"
    format = 1

    def __init__(self) -> None:
        self._listens: dict[int, int] = {}
        self._time: dict[int, float] = {}

    def learn(self, sessions: Sequence[HeardSession]) -> None:
        """Count; see `OnlineModel.learn`."""
        for session in sessions:
            for track, fraction in zip(session.tracks.tolist(), session.fractions.tolist(), strict=True):
                self._listens[track] = self._listens.get(track, 0) + 1
                self._time[track] = self._time.get(track, 0.0) + fraction

    def to_bytes(self) -> bytes:
        """Return rows of track, listens, time, by track."""
        tracks = sorted(self._listens)
        return np.array([(track, self._listens[track], self._time[track]) for track in tracks], dtype=_ROW).tobytes()

    def load(self, state: bytes) -> None:
        """Take rows in."""
        for track, listens, time in np.frombuffer(state, _ROW).tolist():
            self._listens[track], self._time[track] = listens, time

    def snapshot(self) -> bytes:
        """Return the same rows."""
        return self.to_bytes()
