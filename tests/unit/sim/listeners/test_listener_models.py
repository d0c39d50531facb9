"""The models beside Botify's: each against its own formula, written out for one listener."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import ArrayLike

from botify.core.errors import LoadError
from botify.core.keyed_random import Keys, mix
from botify.sim import SimulationError
from botify.sim.listeners import load_model
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.changing import (
    CYCLE_MS,
    DRIFT_PERIOD_MS,
    HALF_LIFE_MS,
    HEIGHT,
    HIT_SHARE,
    MEMORY,
    PEAK_AFTER_MS,
    DriftingListeners,
    FatiguedListeners,
    ShiftingListeners,
    TrendingListeners,
)
from botify.sim.listeners.changing import SHIFT_PERIOD_MS as SHIFT_MS
from botify.sim.listeners.model import Exposure, Floats, Ints, SessionStart
from botify.sim.world.model import World

HOUR_MS = 60 * 60 * 1000
NOW_MS = 1_800_000_000_000


def exposure(
    world: World,
    played: ArrayLike,
    time_ms: ArrayLike,
    by: ArrayLike | None = None,
    counts: ArrayLike | None = None,
) -> Exposure:
    tracks = np.array(played)
    users = np.zeros(len(tracks), dtype=np.int64) if by is None else np.array(by)
    return Exposure(
        users=users,
        tracks=tracks,
        tastes=world.catalogue.embeddings[world.listeners.interests[users, 0]].astype(np.float64),
        repeated=np.zeros(len(tracks), dtype=np.bool_),
        artist_counts=np.zeros(len(tracks), dtype=np.int64) if counts is None else np.array(counts),
        time_ms=np.array(np.broadcast_to(time_ms, len(tracks))),
        keys=mix(7, users),
        positions=np.ones(len(tracks), dtype=np.int64),
    )


def affinity(world: World, user: int, score: float) -> float:
    people = world.listeners
    return 1 / (1 + math.exp(-(score - people.consume_bias[user]) * people.consume_sharpness[user]))


def test_fatigue_adds_up_over_sessions_and_halves_in_three_days(small_world: World) -> None:
    model = FatiguedListeners(small_world, seed=1)
    catalogue = small_world.catalogue
    artist = int(np.bincount(catalogue.artist_of).argmax())
    tracks = np.flatnonzero(catalogue.artist_of == artist)[:4]
    times = [NOW_MS, NOW_MS + HOUR_MS, NOW_MS + HALF_LIFE_MS, NOW_MS + 5 * HALF_LIFE_MS]
    gamma = small_world.listeners.artist_discount_gamma[0]
    for n, (track, at_ms) in enumerate(zip(tracks, times, strict=True)):
        boredom = sum(2 ** (-(at_ms - earlier) / HALF_LIFE_MS) for earlier in times[:n])
        heard = exposure(small_world, [track], at_ms, counts=[0])
        score = float(catalogue.embeddings[track].astype(float) @ heard.tastes[0])
        expected = round(affinity(small_world, 0, score) * gamma**boredom, 2)
        assert model.fractions(heard)[0] == pytest.approx(expected, abs=1e-12)


def test_within_a_session_fatigue_is_nearly_botifys_count(small_world: World) -> None:
    model, botify = FatiguedListeners(small_world, 1), BotifyListeners(small_world, 1)
    artist = int(np.bincount(small_world.catalogue.artist_of).argmax())
    for n, track in enumerate(np.flatnonzero(small_world.catalogue.artist_of == artist)[:6]):
        heard = exposure(small_world, [track], NOW_MS + n * 120_000, counts=[n])
        assert model.fractions(heard)[0] == pytest.approx(botify.fractions(heard)[0], abs=0.011)


def test_a_listener_remembers_as_many_artists_as_there_is_room_for(small_world: World) -> None:
    model = FatiguedListeners(small_world, 1)
    first_of_artist = np.unique(small_world.catalogue.artist_of, return_index=True)[1]
    artists = small_world.catalogue.artist_of[first_of_artist]
    for n, track in enumerate(first_of_artist[: MEMORY + 1]):
        model.fractions(exposure(small_world, [track], NOW_MS + n * HOUR_MS))
    levels = [
        model.boredom(np.array([0]), artists[n : n + 1], np.array([NOW_MS + MEMORY * HOUR_MS]))[0]
        for n in range(MEMORY + 1)
    ]
    assert levels[0] == 0.0
    assert min(levels[1:]) > 0.0


def test_fatigue_of_one_listener_is_none_of_anothers(small_world: World) -> None:
    model = FatiguedListeners(small_world, 1)
    model.fractions(exposure(small_world, [5], NOW_MS, by=[1]))
    artist = small_world.catalogue.artist_of[[5, 5]]
    assert model.boredom(np.array([1, 2]), artist, np.array([NOW_MS, NOW_MS])).tolist() == [1.0, 0.0]


def test_hits_rise_to_a_peak_after_two_days_and_fade(small_world: World) -> None:
    model = TrendingListeners(small_world, seed=1)
    tracks = np.arange(len(small_world.catalogue))
    cycle = NOW_MS // CYCLE_MS
    (hit, *_) = model.hits(cycle)
    curve = np.array(
        [model.popularity(np.array([hit]), np.array([cycle * CYCLE_MS + h * HOUR_MS]))[0] for h in range(24 * 28)]
    )
    peak = int(curve.argmax())
    released = peak - PEAK_AFTER_MS // HOUR_MS
    assert curve.max() == pytest.approx(1.0, abs=0.01)
    assert curve[max(0, released - 1)] < 0.05
    assert (np.diff(curve[max(0, released + 1) : peak]) > 0).all()
    assert (np.diff(curve[peak + 1 : released + 24 * 10]) < 0).all()
    assert model.popularity(tracks, np.full(len(tracks), NOW_MS)).mean() < 0.05


def test_a_hits_popularity_is_added_to_its_score(small_world: World) -> None:
    model = TrendingListeners(small_world, seed=1)
    tracks = np.arange(len(small_world.catalogue))
    times = NOW_MS + np.arange(14) * 24 * HOUR_MS
    popularity = np.array([model.popularity(tracks, np.full(len(tracks), at_ms)) for at_ms in times])
    day, hit = np.unravel_index(popularity.argmax(), popularity.shape)
    heard = exposure(small_world, [hit], times[day])
    inner = float(small_world.catalogue.embeddings[hit].astype(float) @ heard.tastes[0])
    assert popularity[day, hit] > 0.5
    expected = round(affinity(small_world, 0, inner + HEIGHT * popularity[day, hit]), 2)
    assert model.fractions(heard)[0] == pytest.approx(expected, abs=1e-12)


def test_as_many_tracks_become_hits_as_it_says_and_other_ones_in_the_next_cycle(default_world: World) -> None:
    model = TrendingListeners(default_world, seed=1)
    now, later = (set(model.hits(cycle).tolist()) for cycle in (100, 101))
    assert len(now) == pytest.approx(HIT_SHARE * 50_000, rel=0.2)
    assert len(now & later) < 0.1 * len(now)


def test_hits_come_out_all_through_the_cycle(default_world: World) -> None:
    model = TrendingListeners(default_world, seed=1)
    hits = model.hits(100)
    days = 100 * CYCLE_MS + np.arange(28) * 24 * HOUR_MS
    curves = np.array([model.popularity(hits, np.full(len(hits), at_ms)) for at_ms in days])
    peaks = np.bincount(curves.argmax(axis=0), minlength=28)
    assert (peaks[2:15] > 0).all()


def test_sessions_start_with_hits_while_they_are_hits(default_world: World) -> None:
    model = TrendingListeners(default_world, seed=1)
    users = np.tile(np.arange(10_000), 3)
    times = np.full(len(users), (NOW_MS // CYCLE_MS) * CYCLE_MS + CYCLE_MS // 2)
    keys = mix(3, users, np.arange(len(users)))
    opened = model.open(users, keys, times).tracks
    usual = BotifyListeners(default_world, 1).open(users, keys, times).tracks
    popularity = model.popularity(opened, times)
    assert 0.01 < (opened != usual).mean() < 0.3
    assert (popularity[opened != usual] > 0).all()


def test_an_interest_leaves_home_and_comes_back_in_a_period(small_world: World) -> None:
    model = DriftingListeners(small_world, seed=1)
    users, slots = np.array([7]), np.array([1])
    steps = np.linspace(0, 2 * DRIFT_PERIOD_MS, 400).astype(np.int64)
    away = np.array([model.drift(users, slots, np.array([NOW_MS + step]))[2][0] for step in steps])
    assert away.min() < 0.001
    assert away.max() > 0.999
    assert np.abs(np.diff(away)).max() < 0.02  # it moves, it does not jump
    np.testing.assert_allclose(away[:200], away[200:], atol=0.03)  # the same again, with another guest


def test_a_session_is_after_the_mixture_of_home_and_guest(small_world: World) -> None:
    model, people = DriftingListeners(small_world, seed=1), small_world.listeners
    vectors = small_world.catalogue.embeddings.astype(float)
    users = np.arange(60)
    keys, times = mix(5, users), np.full(60, NOW_MS)
    opening = model.open(users, keys, times)
    slots = []
    for user in users.tolist():
        for slot in range(3):
            (host,), (host_slot,), (away,) = model.drift(np.array([user]), np.array([slot]), np.array([NOW_MS]))
            home, guest = vectors[people.interests[user, slot]], vectors[people.interests[host, host_slot]]
            if np.allclose(opening.tastes[user], (1 - away) * home + away * guest):
                slots.append(slot)
    assert len(slots) == 60
    assert set(slots) == {0, 1, 2}


def test_half_of_the_tracks_turn_at_once(default_world: World) -> None:
    model = ShiftingListeners(default_world, seed=1)
    now, later = (model.sounds_like(period) for period in (0, 1))
    assert (now != np.arange(len(now))).mean() == pytest.approx(0.3, abs=0.02)
    assert np.bincount(later, minlength=len(later)).max() == 1
    assert (now != later).mean() == pytest.approx(1 - 0.7 * 0.7, abs=0.02)


def test_between_two_shifts_a_session_is_botifys_under_other_names(small_world: World) -> None:
    model, botify = ShiftingListeners(small_world, seed=1), BotifyListeners(small_world, seed=1)
    users = np.arange(60)
    keys, times = mix(5, users), np.where(users < 30, SHIFT_MS - 1, SHIFT_MS)
    opened, usual = model.open(users, keys, times), botify.open(users, keys, times)
    assert (opened.tastes == usual.tastes).all()
    for user, period in zip(users.tolist(), times // SHIFT_MS, strict=True):
        assert model.sounds_like(period)[opened.tracks[user]] == usual.tracks[user]
    heard = exposure(small_world, opened.tracks, times, by=users)
    assert (model.fractions(heard) == botify.fractions(exposure(small_world, usual.tracks, times, by=users))).all()


class TwoTracks:
    """A model of the user's own: likes even tracks."""

    def __init__(self, world: World, seed: int) -> None:
        self.botify = BotifyListeners(world, seed)

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        return self.botify.open(users, keys, time_ms)

    def fractions(self, exposure: Exposure) -> Floats:
        return np.where(exposure.tracks % 2 == 0, 1.0, 0.0)


class NoModel:
    def __init__(self, world: World, seed: int) -> None:
        pass


def test_a_model_of_ones_own_is_found_by_module_and_class(small_world: World) -> None:
    assert isinstance(load_model(f"{__name__}:TwoTracks", small_world, 1), TwoTracks)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("botified", "there are botify, drifting, trending, shifting, fatigue, streaming"),
        ("nowhere:Class", "cannot be imported"),
        ("math:Class", "cannot be imported"),
        (f"{__name__}:NoModel", "needs the methods open and fractions"),
    ],
)
def test_a_model_that_is_none_is_refused(small_world: World, name: str, message: str) -> None:
    with pytest.raises((LoadError, SimulationError), match=message):
        load_model(name, small_world, 1)
