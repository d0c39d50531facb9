"""What `next_track` costs over 50,000 tracks, on one core."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from botify.streams.learner.models.next_track import NextTrack

TRACKS = 50_000
USERS = 5_000
EVENTS = 300_000
"""Learned before anything is measured: the stacker takes a sample by then, and a user has 60 events."""
MEASURED = 16_384
BATCH = 64
ROUNDS = 5


def measure_next_track() -> dict[str, float]:
    """Return µs of CPU time an event learned and a recommendation, the median over some rounds.

    The tracks are independent draws by Zipf's law: without structure, a history has the most candidates.
    """
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, TRACKS + 1) ** 0.8
    total = EVENTS + ROUNDS * MEASURED
    tracks = rng.choice(TRACKS, total, p=popularity / popularity.sum())
    users, times_ms, values = rng.integers(0, USERS, total), np.arange(1, total + 1), np.ones(total)
    model = NextTrack()

    def learn(begin: int, end: int) -> None:
        part = slice(begin, end)
        model.learn(users[part], tracks[part], values[part], times_ms[part])

    learn(0, EVENTS)
    learning = [_us(partial(learn, begin, begin + MEASURED), MEASURED) for begin in range(EVENTS, total, MEASURED)]
    asked = [rng.integers(0, USERS, BATCH) for _ in range(16)]
    sessions = [rng.choice(tracks, 10 * BATCH) for _ in range(16)]
    lengths, heard = np.full(BATCH, 10), np.ones(10 * BATCH)
    model.rank(asked[0], 10)  # compiles
    return {
        "learn_us": statistics.median(learning),
        "rank_us": _median_us(lambda: [model.rank(batch, 10) for batch in asked]),
        "rank_short_us": _median_us(lambda: [model.rank_histories(one, heard, lengths, 10) for one in sessions]),
    }


def _median_us(rank_all: Callable[[], object]) -> float:
    return statistics.median(_us(rank_all, 16 * BATCH) for _ in range(ROUNDS))


def _us(run: Callable[[], object], times: int) -> float:
    began_s = time.process_time()
    run()
    return (time.process_time() - began_s) / times * 1e6
