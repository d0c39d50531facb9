"""Listens as the batch job wants them: a few columns of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class Heard(NamedTuple):
    """One row a listen.

    Attributes
    ----------
    events, sessions : ndarray of uint64, shape (n,)
        Hashes of event id and session id.
    users, tracks : ndarray of int64, shape (n,)
    fractions : ndarray of float64, shape (n,)
    timestamps_ms : ndarray of int64, shape (n,)

    Examples
    --------
    >>> heard = Heard.of(["a", "b", "a"], ["s", "s", "s"], [1, 1, 1], [7, 8, 7], [1.0, 0.5, 1.0], [0, 9, 0])
    >>> sorted(Heard.together([heard, heard]).tracks.tolist())
    [7, 8]
    """

    events: NDArray[np.uint64]
    sessions: NDArray[np.uint64]
    users: NDArray[np.int64]
    tracks: NDArray[np.int64]
    fractions: NDArray[np.float64]
    timestamps_ms: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        event_ids: Sequence[str],
        session_ids: Sequence[str],
        users: Sequence[int],
        tracks: Sequence[int],
        fractions: Sequence[float],
        timestamps_ms: Sequence[int],
    ) -> Heard:
        """Put columns together; the texts become 64-bit hashes."""
        return cls(
            _hashes(event_ids),
            _hashes(session_ids),
            np.asarray(users, dtype=np.int64),
            np.asarray(tracks, dtype=np.int64),
            np.asarray(fractions, dtype=np.float64),
            np.asarray(timestamps_ms, dtype=np.int64),
        )

    @classmethod
    def together(cls, parts: Iterable[Heard]) -> Heard:
        """Join parts, drop the copies of a listen, and sort by event: the order of reading makes no difference."""
        nothing = cls.of([], [], [], [], [], [])
        columns = [np.concatenate(column) for column in zip(nothing, *parts, strict=True)]
        _, first = np.unique(columns[0], return_index=True)
        return cls._make(column[first] for column in columns)


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    return pd.util.hash_array(np.array(list(texts), dtype=object), categorize=False)
