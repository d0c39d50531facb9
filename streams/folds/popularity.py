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

POPULARITY = "popularity"
TOP_TRACKS = 1000

_HOUR_MS = 3_600_000
HALF_LIVES_MS: dict[str, int] = {"1h": _HOUR_MS, "1d": 24 * _HOUR_MS, "30d": 30 * 24 * _HOUR_MS}


def top_collection(half_life: str) -> str:
    """Return the name of the sorted set of a half-life (`1h`, `1d` or `30d`)."""
    return f"{POPULARITY}:{half_life}"


TOPS = tuple(map(top_collection, HALF_LIVES_MS))


class TrackRows:
    """Rows of tracks, made by compiled code; the folds of a process share them: they are most of a track's memory."""

    index: Any = None


def popularity_at(score: ArrayLike, half_life: str, timestamp_ms: int) -> NDArray[np.float64]:
    """Return the decayed sum of fractions that a score means at a time."""
    return np.asarray(np.exp2(np.asarray(score, dtype=np.float64) - timestamp_ms / HALF_LIVES_MS[half_life]))
