"""Projection `popularity`: for each half-life a sorted set from track to score, decaying with event time.

The popularity of a track at time t, for half-life h, is the sum over its listens of fraction · 2^((tᵢ − t)/h).
Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay model for streaming
systems", ICDE 2009) writes it as 2^(−t/h) · Σ fraction · 2^(tᵢ/h), so that nothing has to be rewritten as time
passes. We keep the logarithm of that sum,

    score = log2 Σ fraction · 2^(tᵢ/h)        popularity(t) = 2^(score − t/h)

which orders tracks alike, never overflows, and so needs no landmark that would have to be moved: after fifty years
of a one-hour half-life a score is about 440,000, and a double still resolves a relative change of 4e-11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from streams.folds.projection import Changes, Fields, Record

_HOUR_MS = 3_600_000
HALF_LIVES_MS: dict[str, int] = {"1h": _HOUR_MS, "1d": 24 * _HOUR_MS, "30d": 30 * 24 * _HOUR_MS}


def collection(half_life: str) -> str:
    """Return the name of the sorted set of a half-life (`1h`, `1d` or `30d`)."""
    return f"popularity:{half_life}"


def popularity_at(score: ArrayLike, half_life: str, timestamp_ms: int) -> NDArray[np.float64]:
    """Return the decayed sum of fractions that a score means at a time.

    Examples
    --------
    >>> float(popularity_at(1.0, "1h", 0))
    2.0
    >>> float(popularity_at(1.0, "1h", 3_600_000))
    1.0
    """
    return np.asarray(np.exp2(np.asarray(score, dtype=np.float64) - timestamp_ms / HALF_LIVES_MS[half_life]))


class Popularity:
    """Scores of the tracks heard in one partition, for all half-lives at once.

    Scores are kept in dense arrays, 32 bytes a track of the catalogue, and read from the store when first needed.

    Examples
    --------
    >>> from schemas.events import Listen
    >>> listen = Listen("a:0", 42, 7, 0.5, 3_600_000, "a", 0, False, None, {}, None, None)
    >>> popularity = Popularity()
    >>> popularity.load_scores("popularity:1h", {b"7": None})
    >>> _ = popularity.fold([(0, listen)])
    >>> popularity.changes().scores["popularity:1h"]  # log2(0.5 · 2^1)
    {b'7': 0.0}
    """

    hashes: Sequence[str] = ()
    score_sets: Sequence[str] = tuple(collection(half_life) for half_life in HALF_LIVES_MS)

    def __init__(self) -> None:
        self._index: dict[int, int] = {}  # track -> row; a row exists once the track is loaded
        self._scores = np.full((len(HALF_LIVES_MS), 1024), -np.inf)
        self._tracks = np.empty(1024, dtype=np.int64)
        self._touched: list[NDArray[np.int64]] = []

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Return the tracks of the batch that were not met before."""
        index = self._index
        tracks = {listen.track for _, listen in batch if listen.track not in index}
        if not tracks:
            return {}
        members = [b"%d" % track for track in sorted(tracks)]
        return dict.fromkeys(self.score_sets, members)

    def load_fields(self, collection: str, values: Fields) -> None:
        """There are none."""

    def load_scores(self, collection: str, values: Mapping[bytes, float | None]) -> None:
        """Take in the scores that were missing."""
        row = self.score_sets.index(collection)
        for member, score in values.items():
            at = self._row_of(int(member))
            self._scores[row, at] = -np.inf if score is None else score

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Add the batch's listens, in order (`ufunc.at` works through its arguments one by one)."""
        heard = [listen for _, listen in batch if listen.fraction > 0.0]
        if heard:
            index = self._index
            rows = np.array([index[listen.track] for listen in heard])
            weights = np.log2(np.array([listen.fraction for listen in heard]))
            times_ms = np.array([listen.timestamp_ms for listen in heard], dtype=np.float64)
            for scores, half_life_ms in zip(self._scores, HALF_LIVES_MS.values(), strict=True):
                np.logaddexp2.at(scores, rows, weights + times_ms / half_life_ms)
            self._touched.append(rows)
        return batch

    def changes(self) -> Changes:
        """Return the scores of the tracks that were heard."""
        if not self._touched:
            return Changes()
        rows = np.unique(np.concatenate(self._touched))
        self._touched = []
        members = [b"%d" % track for track in self._tracks[rows].tolist()]
        return Changes(
            scores={
                name: dict(zip(members, scores[rows].tolist(), strict=True))
                for name, scores in zip(self.score_sets, self._scores, strict=True)
            }
        )

    def _row_of(self, track: int) -> int:
        row = self._index.get(track)
        if row is None:
            row = self._index[track] = len(self._index)
            if row == len(self._tracks):
                self._tracks = np.concatenate([self._tracks, np.empty_like(self._tracks)])
                self._scores = np.hstack([self._scores, np.full_like(self._scores, -np.inf)])
            self._tracks[row] = track
        return row
