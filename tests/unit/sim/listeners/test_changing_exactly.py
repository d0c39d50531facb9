"""The fast forms of boredom and hits equal their plain formulas, bit for bit: seeded results must not change."""

from __future__ import annotations

import numpy as np

from botify.core.keyed_random import mix, uniform
from botify.sim.listeners.changing import (
    CYCLE_MS,
    CYCLES_CACHED,
    HALF_LIFE_MS,
    HIT_SHARE,
    MEMORY,
    PEAK_AFTER_MS,
    FatiguedListeners,
    TrendingListeners,
)
from botify.sim.listeners.model import HIT, Exposure, Floats, Ints
from botify.sim.world.model import World

NOW_MS = 1_800_000_000_000
HOUR_MS = 60 * 60 * 1000


class PlainMemory:
    """Boredom as it is defined: all that is remembered fades at each listen, and the least is replaced."""

    def __init__(self, users: int) -> None:
        self.artists = np.full((users, MEMORY), -1, dtype=np.int64)
        self.levels = np.zeros((users, MEMORY))
        self.at_ms = np.zeros((users, MEMORY), dtype=np.int64)

    def listen(self, users: Ints, artists: Ints, time_ms: Ints) -> Floats:
        rows = np.arange(len(users))
        known = self.artists[users] == artists[:, None]
        faded = self.levels[users] * 2.0 ** (-(time_ms[:, None] - self.at_ms[users]) / HALF_LIFE_MS)
        place = np.where(known.any(axis=1), known.argmax(axis=1), faded.argmin(axis=1))
        before: Floats = np.where(known[rows, place], faded[rows, place], 0.0)
        self.levels[users, place] = before + 1.0
        self.artists[users, place] = artists
        self.at_ms[users, place] = time_ms
        return before


def test_boredom_is_that_of_the_plain_memory_also_when_it_is_full(small_world: World) -> None:
    model, plain = FatiguedListeners(small_world, seed=1), PlainMemory(60)
    artist_of, rng = small_world.catalogue.artist_of.astype(np.int64), np.random.default_rng(1)
    first_of_artist = np.unique(artist_of, return_index=True)[1]
    now_ms = np.full(60, NOW_MS)
    for _ in range(400):  # 80 artists, and room for 64
        users = np.flatnonzero(rng.random(60) < 0.7)
        tracks = first_of_artist[rng.integers(len(first_of_artist), size=len(users))]
        now_ms[users] += rng.integers(1, 12 * HOUR_MS, size=len(users))
        boredom = plain.listen(users, artist_of[tracks], now_ms[users])
        heard = Exposure(
            users=users,
            tracks=tracks,
            tastes=small_world.catalogue.embeddings[tracks].astype(np.float64),
            repeated=np.zeros(len(users), dtype=np.bool_),
            artist_counts=np.zeros(len(users), dtype=np.int64),
            time_ms=now_ms[users],
            keys=mix(7, users),
            positions=np.ones(len(users), dtype=np.int64),
        )
        shown = model.boredom(users, artist_of[tracks], now_ms[users])
        np.testing.assert_array_equal(shown, boredom)
        expected = model.discounted(heard, model.scores(heard), boredom)
        np.testing.assert_array_equal(model.appeal(heard), expected)  # and remembers nothing
        np.testing.assert_array_equal(model.fractions(heard), np.round(expected, 2))
    assert (plain.artists >= 0).all()


def plain_popularity(seed: int, tracks: Ints, time_ms: Ints) -> Floats:
    total = np.zeros(len(tracks))
    for back in (0, 1):
        cycle = time_ms // CYCLE_MS - back
        keys = mix(seed, HIT, tracks, cycle)
        age = np.maximum((time_ms - (cycle + uniform(keys, 1)) * CYCLE_MS) / PEAK_AFTER_MS, 0.0)
        total += np.where(uniform(keys, 0) < HIT_SHARE, age * np.exp(1 - age), 0.0)
    return total


def test_popularity_is_that_of_the_formula_in_any_order_of_cycles(default_world: World) -> None:
    model, rng = TrendingListeners(default_world, seed=3), np.random.default_rng(1)
    for cycles in (1, 2, CYCLES_CACHED + 3, 2):
        tracks = rng.integers(len(default_world.catalogue), size=20_000)
        times = NOW_MS + rng.integers(cycles * CYCLE_MS, size=len(tracks))
        expected = plain_popularity(3, tracks, times)
        np.testing.assert_array_equal(model.popularity(tracks, times), expected)
        assert (expected > 0).any()
