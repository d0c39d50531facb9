"""Projection `popularity`: how popular each track is, with several half-lives, decaying with event time.

The popularity of a track at time t, for half-life h, is the sum over its listens of fraction · 2^((tᵢ − t)/h).
Forward decay (Cormode, Shkapenyuk, Srivastava and Xu, "Forward decay: a practical time decay model for streaming
systems", ICDE 2009) writes it as 2^(−t/h) · Σ fraction · 2^(tᵢ/h), so that nothing has to be rewritten as time
passes. We keep the logarithm of that sum,

    score = log2 Σ fraction · 2^(tᵢ/h)        popularity(t) = 2^(score − t/h)

which orders tracks alike, and needs no landmark that moves: after fifty years of a one-hour half-life a score is about
440,000, and a double still resolves a relative change of 4e-11.

In the store a hash has all scores of each track, and one sorted set for each half-life has the `TOP_TRACKS` best of the
partition, for readers. Scores only grow, so a track can enter the top only when it is heard, and only the tracks of the
batch must be checked. A sorted set of *all* tracks would cost Redis fifteen times as much.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.streams.folds.projection import ScoreChanges, Scores

Ints = NDArray[np.int64]

POPULARITY = "popularity"
TOP_TRACKS = 1000

_HOUR_MS = 3_600_000
HALF_LIVES_MS: dict[str, int] = {"1h": _HOUR_MS, "1d": 24 * _HOUR_MS, "30d": 30 * 24 * _HOUR_MS}


def top_collection(half_life: str) -> str:
    """Return the name of the sorted set of a half-life (`1h`, `1d` or `30d`)."""
    return f"{POPULARITY}:{half_life}"


TOPS = tuple(map(top_collection, HALF_LIVES_MS))


class Top:
    """The best tracks by score, which only grow; of equal scores the smaller track id is better."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._tracks, self._scores = np.zeros(0, dtype=np.int64), np.zeros(0)  # in the order of ids

    def load(self, values: Scores) -> None:
        """Add tracks that are stored."""
        tracks = np.array([int(member) for member in values], dtype=np.int64)
        self.update(tracks, np.array([*values.values()], dtype=np.float64))

    def update(self, tracks: Ints, scores: NDArray[np.float64]) -> ScoreChanges:
        """Update scores of tracks, none twice; return the changes, None if it left."""
        if len(self._tracks) == self._size:
            good = scores >= self._scores.min(initial=np.inf)  # the others are no better than before
            tracks, scores = tracks[good], scores[good]
        at, known = self._find(tracks)
        self._scores[at[known]] = scores[known]
        left: list[int] = []
        if not known.all():
            every = np.concatenate([self._tracks, tracks[~known]])
            of_every = np.concatenate([self._scores, scores[~known]])
            best = np.lexsort((every, -of_every))[: self._size]
            best = best[np.argsort(every[best])]
            left = np.setdiff1d(self._tracks, every[best], assume_unique=True).tolist()
            self._tracks, self._scores = every[best], of_every[best]
            _, stays = self._find(tracks)
            tracks, scores = tracks[stays], scores[stays]
        changed: dict[bytes, float | None] = {
            b"%d" % track: score for track, score in zip(tracks.tolist(), scores.tolist(), strict=True)
        }
        return changed | {b"%d" % track: None for track in left}

    def _find(self, tracks: Ints) -> tuple[Ints, NDArray[np.bool_]]:
        at = np.searchsorted(self._tracks, tracks)
        found = at < len(self._tracks)
        found[found] = self._tracks[at[found]] == tracks[found]
        return at, found


class TrackRows:
    """Rows of tracks, made by compiled code; the folds of a process share them: they are most of a track's memory."""

    index: Any = None


def popularity_at(score: ArrayLike, half_life: str, timestamp_ms: int) -> NDArray[np.float64]:
    """Return the decayed sum of fractions that a score means at a time."""
    return np.asarray(np.exp2(np.asarray(score, dtype=np.float64) - timestamp_ms / HALF_LIVES_MS[half_life]))
