"""Who comes when."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from botify.sim.agents import DummyAgent
from botify.sim.options import LOOKAHEAD_MS, FullSpeed, OfferedRate, RunOptions, WallClock
from botify.sim.play import play_world
from botify.sim.schedule import DAY_MS, HOURLY, NO_USER, DailySchedule, RelaySchedule, busy_days, time_ms
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World


def test_a_relay_gives_every_listener_as_many_sessions_give_or_take_one() -> None:
    schedule = RelaySchedule(np.arange(10), slots=4, sessions=25)
    counts = np.zeros(10, dtype=int)
    for turn in range(20):
        arrivals = schedule.arrivals(np.arange(4), np.full(4, turn), np.zeros(4, dtype=np.int64))
        there = arrivals.users[arrivals.users != NO_USER]
        assert (arrivals.ordinals[arrivals.users != NO_USER] == counts[there]).all()
        counts[there] += 1
    assert counts.tolist() == [3] * 5 + [2] * 5


def test_a_year_of_ten_thousand_listeners_keeps_one_clock() -> None:
    """Λ⁻¹(Λ(t)) is t to the millisecond a year on and decades from the epoch, and nobody's clock runs away."""
    start_ms = 1_800_000_000_000
    schedule = DailySchedule(np.arange(10_000), seed=1, start_ms=start_ms, days=365.0)
    slots = np.arange(10_000)
    turns = np.zeros(10_000, dtype=np.int64)
    now = np.full(10_000, start_ms)
    parts = []
    while len(slots):
        arrivals = schedule.arrivals(slots, turns[slots], now[slots])
        there = arrivals.users != NO_USER
        slots = slots[there]
        assert (arrivals.start_ms[there] >= now[slots]).all()
        now[slots] = arrivals.start_ms[there]
        turns[slots] += 1
        parts.append(arrivals.start_ms[there])
    starts = np.concatenate(parts)
    assert np.abs(time_ms(busy_days(starts)) - starts).max() <= 1
    assert starts.min() >= start_ms
    assert starts.max() < start_ms + 365 * DAY_MS
    assert len(starts) / 3_650_000 == pytest.approx(1.0, rel=0.02)  # a session a listener and day
    by_hour = np.bincount((starts % DAY_MS) // (DAY_MS // 24), minlength=24)
    assert by_hour / len(starts) == pytest.approx(np.array(HOURLY) / sum(HOURLY), rel=0.03)
    by_week = np.bincount((starts - start_ms) // (7 * DAY_MS))[:52]
    assert by_week / by_week.mean() == pytest.approx(np.ones(52), rel=0.03)  # the last week is as busy as the first


def test_at_full_speed_no_listener_runs_far_ahead_of_another(small_world: World) -> None:
    newest = 0

    def check(heard: FinishedListens) -> None:
        nonlocal newest
        if len(heard):
            assert heard.time_ms.min() >= newest - 20 * 60 * 1000
            newest = max(newest, heard.time_ms.max())

    options = RunOptions(sessions=600, in_flight=30, start_ms=0)
    assert play_world(small_world, DummyAgent(small_world.catalogue, 1), options, listener=check).sessions == 600
    assert newest > 60 * 60 * 1000


def clocks(earliest_ms: int = 0, next_ms: int | None = None) -> Any:
    """Return what a pace reads of a simulation."""
    return SimpleNamespace(earliest_ms=lambda: earliest_ms, next_ms=lambda: next_ms)


def test_the_wall_clock_multiplies_time_and_waits_for_the_next_listen_within_bounds() -> None:
    due = WallClock(start_ms=1_000, speed=10.0).due(2.0, clocks(0, 21_500))
    assert (due.until_ms, due.wait_s) == (21_000, 0.05)
    clock = WallClock(start_ms=0, speed=1.0)
    assert clock.due(0.0, clocks(0, 10**9)).wait_s == 0.1
    assert clock.due(5.0, clocks(0, 0)).wait_s == 0.002
    assert OfferedRate(1000.0).due(0.0039, clocks()).wait_s == 0.002


def test_nobody_is_far_ahead_of_the_one_who_is_furthest_behind() -> None:
    for pace in (FullSpeed(), OfferedRate(1000.0)):
        assert pace.due(123.0, clocks(5_000)).until_ms == 5_000 + LOOKAHEAD_MS


def test_an_offered_rate_is_kept_over_time_and_does_not_make_up_for_a_long_stall() -> None:
    pace, made = OfferedRate(rate=1000.0), 0
    for step in range(3000):
        most = pace.due(step * 0.0017, clocks()).most or 0
        pace.spend(most)
        made += most
    assert abs(made - 3000 * 1.7) <= 4
    pace = OfferedRate(rate=1000.0)
    pace.spend(pace.due(1.0, clocks()).most or 0)
    assert pace.due(100.0, clocks()).most == 250
