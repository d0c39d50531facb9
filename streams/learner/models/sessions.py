"""Sessions as what is learned from them: tracks and fractions in order, and several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class FinishedSession(NamedTuple):
    """A session that is over.

    Attributes
    ----------
    tracks : ndarray of int64, shape (n,)
        From its first on; the listener's own choice.
    fractions : ndarray of float32, shape (n,)
    """

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float32]


class Padded(NamedTuple):
    """Sessions in rows; what is beyond the end of one is not valid, and 0."""

    tracks: NDArray[np.int64]
    fractions: NDArray[np.float32]
    valid: NDArray[np.bool_]


def pad(sessions: Sequence[FinishedSession]) -> Padded:
    """Put sessions side by side; all of shape (number of sessions, length of the longest).

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
