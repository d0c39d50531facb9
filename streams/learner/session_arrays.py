"""Sessions one behind the other, as three arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.learner.models.sessions import FinishedSession


def joined(sessions: Sequence[tuple[Sequence[int], Sequence[float]]]) -> dict[str, NDArray[Any]]:
    """Return the sessions' lengths, and all their tracks and fractions in order.

    Parameters
    ----------
    sessions : sequence of (tracks, fractions)

    Examples
    --------
    >>> arrays = joined([([7, 8], [1.0, 0.5]), ([9], [0.0])])
    >>> arrays["lengths"].tolist(), arrays["tracks"].tolist()
    ([2, 1], [7, 8, 9])
    >>> [session.tracks.tolist() for session in cut(arrays)]
    [[7, 8], [9]]
    """
    return {
        "lengths": np.array([len(tracks) for tracks, _ in sessions], dtype=np.int32),
        "tracks": np.array([track for tracks, _ in sessions for track in tracks], dtype=np.int32),
        "fractions": np.array([fraction for _, fractions in sessions for fraction in fractions], dtype=np.float32),
    }


def cut(arrays: Mapping[str, NDArray[Any]]) -> list[FinishedSession]:
    """Return the sessions that `joined` has put together."""
    ends = np.cumsum(arrays["lengths"])[:-1]
    if not len(arrays["lengths"]):
        return []
    tracks, fractions = np.split(arrays["tracks"].astype(np.int64), ends), np.split(arrays["fractions"], ends)
    return [FinishedSession(*session) for session in zip(tracks, fractions, strict=True)]
