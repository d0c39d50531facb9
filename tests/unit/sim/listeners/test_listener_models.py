"""The models beside Botify's: each against its own formula, written out for one listener."""

import math

import numpy as np
import pytest

from botify.core.errors import LoadError
from botify.core.keyed_random import mix, uniform
from botify.sim import SimulationError
from botify.sim.listeners import changing, load_model
from botify.sim.listeners.botify import BotifyListeners, ThresholdListeners
from botify.sim.listeners.changing import HALF_LIFE_MS
from botify.sim.listeners.model import HIT, Floats, Ints
from botify.sim.world.model import World
from tests.unit.sim.conftest import exposure

HOUR_MS = 60 * 60 * 1000
NOW_MS = 1_800_000_000_000


def test_three_listens_of_an_artist_are_alike_and_the_next_ones_lose(small_world: World) -> None:
    heard = exposure(small_world, [5] * 6, NOW_MS, counts=range(6))
    first = BotifyListeners(small_world, seed=1).appeal(heard)[0]
    found = ThresholdListeners(small_world, seed=1).fractions(heard)
    lost = np.array([0, 0, 0, 1, 2, 3]) * 0.4
    assert found == pytest.approx(np.round(np.maximum(first - lost, 0), 2), abs=1e-12)
    assert found[2] > found[3]


def test_boredom_is_taken_from_the_logit_and_recovers(small_world: World) -> None:
    model = changing.RecoveringListeners(small_world, seed=1)
    first = BotifyListeners(small_world, seed=1).appeal(exposure(small_world, [5], NOW_MS))[0]
    times = [NOW_MS, NOW_MS + HOUR_MS, NOW_MS + HALF_LIFE_MS, NOW_MS + 5 * HALF_LIFE_MS]
    for n, at_ms in enumerate(times):
        boredom = sum(2 ** (-(at_ms - earlier) / HALF_LIFE_MS) for earlier in times[:n])
        expected = round(1 / (1 + math.exp(boredom) * (1 / first - 1)), 2)
        assert model.fractions(exposure(small_world, [5], at_ms))[0] == pytest.approx(expected, abs=1e-12)


def test_a_hits_popularity_is_added_to_its_score(small_world: World) -> None:
    model = changing.TrendingListeners(small_world, seed=1)
    tracks = np.arange(len(small_world.catalogue))
    times = NOW_MS + np.arange(14) * 24 * HOUR_MS
    popularity = np.array([model.popularity(tracks, np.full(len(tracks), at_ms)) for at_ms in times])
    day, hit = np.unravel_index(popularity.argmax(), popularity.shape)
    heard = exposure(small_world, [hit], times[day])
    score = float(small_world.catalogue.embeddings[hit].astype(float) @ heard.tastes[0])
    assert popularity[day, hit] > 0.5
    people, score = small_world.listeners, score + changing.HEIGHT * popularity[day, hit]
    expected = 1 / (1 + math.exp(-(score - people.consume_bias[0]) * people.consume_sharpness[0]))
    assert model.fractions(heard)[0] == pytest.approx(round(expected, 2), abs=1e-12)


def test_sessions_start_with_hits_while_they_are_hits(default_world: World) -> None:
    model = changing.TrendingListeners(default_world, seed=1)
    users = np.tile(np.arange(10_000), 3)
    times = np.full(len(users), (NOW_MS // changing.CYCLE_MS) * changing.CYCLE_MS + changing.CYCLE_MS // 2)
    keys = mix(3, users, np.arange(len(users)))
    opened = model.open(users, keys, times).tracks
    other = opened != BotifyListeners(default_world, 1).open(users, keys, times).tracks
    assert 0.01 < other.mean() < 0.3
    assert (model.popularity(opened, times)[other] > 0).all()


def test_an_interest_leaves_home_and_comes_back_in_a_period(small_world: World) -> None:
    model = changing.DriftingListeners(small_world, seed=1)
    times = NOW_MS + np.linspace(0, 2 * changing.DRIFT_PERIOD_MS, 400).astype(np.int64)
    away = np.array([model.drift(np.array([7]), np.array([1]), np.array([at_ms]))[2][0] for at_ms in times])
    assert away.min() < 0.001
    assert away.max() > 0.999
    assert np.abs(np.diff(away)).max() < 0.02  # it moves, it does not jump
    np.testing.assert_allclose(away[:200], away[200:], atol=0.03)  # the same again, with another guest


def test_a_session_is_after_the_mixture_of_home_and_guest(small_world: World) -> None:
    model, people = changing.DriftingListeners(small_world, seed=1), small_world.listeners
    vectors = small_world.catalogue.embeddings.astype(float)
    users, slots = np.arange(60), []
    opening = model.open(users, mix(5, users), np.full(60, NOW_MS))
    for user in range(60):
        for slot in range(3):
            (host,), (host_slot,), (away,) = model.drift(np.array([user]), np.array([slot]), np.array([NOW_MS]))
            home, guest = vectors[people.interests[user, slot]], vectors[people.interests[host, host_slot]]
            if np.allclose(opening.tastes[user], (1 - away) * home + away * guest):
                slots.append(slot)
    assert len(slots) == 60
    assert set(slots) == {0, 1, 2}


def test_between_two_shifts_a_session_is_botifys_under_other_names(small_world: World) -> None:
    model, botify = changing.ShiftingListeners(small_world, seed=1), BotifyListeners(small_world, seed=1)
    users = np.arange(60)
    keys, times = mix(5, users), np.where(users < 30, changing.SHIFT_PERIOD_MS - 1, changing.SHIFT_PERIOD_MS)
    opened, usual = model.open(users, keys, times), botify.open(users, keys, times)
    assert (opened.tastes == usual.tastes).all()
    for user, period in zip(users.tolist(), times // changing.SHIFT_PERIOD_MS, strict=True):
        assert model.sounds_like(period)[opened.tracks[user]] == usual.tracks[user]
    heard = exposure(small_world, opened.tracks, times, by=users)
    assert (model.fractions(heard) == botify.fractions(exposure(small_world, usual.tracks, times, by=users))).all()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("botified", "there are botify, drifting, trending, shifting, fatigue, streaming"),
        ("nowhere:Class", "cannot be imported"),
        ("math:Class", "cannot be imported"),
        ("operator:is_", "needs the methods open and fractions"),
    ],
)
def test_a_model_that_is_none_is_refused(small_world: World, name: str, message: str) -> None:
    with pytest.raises((LoadError, SimulationError), match=message):
        load_model(name, small_world, 1)


class PlainMemory:
    """Boredom as it is defined: all that is remembered fades at each listen, and the least is replaced."""

    def __init__(self, users: int) -> None:
        self.artists = np.full((users, changing.MEMORY), -1, dtype=np.int64)
        self.levels = np.zeros((users, changing.MEMORY))
        self.at_ms = np.zeros((users, changing.MEMORY), dtype=np.int64)

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
    model, plain = changing.FatiguedListeners(small_world, seed=1), PlainMemory(60)
    artist_of, rng = small_world.catalogue.artist_of.astype(np.int64), np.random.default_rng(1)
    now_ms = np.full(60, NOW_MS)
    for _ in range(400):  # 80 artists, and room for 64
        users = np.flatnonzero(rng.random(60) < 0.7)
        shuffled = rng.permutation(len(artist_of))
        of_artist = shuffled[np.unique(artist_of[shuffled], return_index=True)[1]]  # any track of each artist
        tracks = of_artist[rng.integers(len(of_artist), size=len(users))]
        now_ms[users] += rng.integers(1, 12 * HOUR_MS, size=len(users))
        boredom = plain.listen(users, artist_of[tracks], now_ms[users])
        heard = exposure(small_world, tracks, now_ms[users], by=users)
        np.testing.assert_array_equal(model.boredom(users, artist_of[tracks], now_ms[users]), boredom)
        expected = model.discounted(heard, model.scores(heard), boredom)
        np.testing.assert_array_equal(model.appeal(heard), expected)  # and remembers nothing
        np.testing.assert_array_equal(model.fractions(heard), np.round(expected, 2))
    assert (plain.artists >= 0).all()


def plain_popularity(seed: int, tracks: Ints, time_ms: Ints) -> Floats:
    total = np.zeros(len(tracks))
    for back in (0, 1):
        cycle = time_ms // changing.CYCLE_MS - back
        keys = mix(seed, HIT, tracks, cycle)
        age = np.maximum((time_ms - (cycle + uniform(keys, 1)) * changing.CYCLE_MS) / changing.PEAK_AFTER_MS, 0.0)
        total += np.where(uniform(keys, 0) < changing.HIT_SHARE, age * np.exp(1 - age), 0.0)
    return total


def test_popularity_is_that_of_the_formula_in_any_order_of_cycles(default_world: World) -> None:
    model, rng = changing.TrendingListeners(default_world, seed=3), np.random.default_rng(1)
    for cycles in (1, 2, changing.CYCLES_CACHED + 3, 2):
        tracks = rng.integers(len(default_world.catalogue), size=20_000)
        times = NOW_MS + rng.integers(cycles * changing.CYCLE_MS, size=len(tracks))
        expected = plain_popularity(3, tracks, times)
        np.testing.assert_array_equal(model.popularity(tracks, times), expected)
        assert (expected > 0).any()
