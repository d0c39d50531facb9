"""The clocks of a run."""

from __future__ import annotations

import pytest

from botify.sim.options import LOOKAHEAD_MS, FullSpeed, OfferedRate, WallClock


class Clocks:
    def __init__(self, earliest_ms: int = 0, next_ms: int | None = None) -> None:
        self._earliest_ms, self._next_ms = earliest_ms, next_ms

    def earliest_ms(self) -> int:
        return self._earliest_ms

    def next_ms(self) -> int | None:
        return self._next_ms


@pytest.mark.parametrize("pace", [FullSpeed(), OfferedRate(1000.0)])
def test_nobody_is_far_ahead_of_the_one_who_is_furthest_behind(pace: FullSpeed | OfferedRate) -> None:
    assert pace.due(123.0, Clocks(5_000)).until_ms == 5_000 + LOOKAHEAD_MS


def test_the_wall_clock_multiplies_time_and_waits_for_the_next_listen() -> None:
    due = WallClock(start_ms=1_000, speed=10.0).due(2.0, Clocks(0, 21_500))
    assert due.until_ms == 21_000
    assert due.wait_s == 0.05


def test_waits_are_bounded_on_both_sides() -> None:
    clock = WallClock(start_ms=0, speed=1.0)
    assert clock.due(0.0, Clocks(0, 10**9)).wait_s == 0.1
    assert clock.due(5.0, Clocks(0, 0)).wait_s == 0.002
    assert OfferedRate(1000.0).due(0.0039, Clocks()).wait_s == 0.002


def test_an_offered_rate_is_kept_over_time_however_often_it_is_asked() -> None:
    pace, made = OfferedRate(rate=1000.0), 0
    for step in range(3000):
        most = pace.due(step * 0.0017, Clocks()).most or 0
        pace.spend(most)
        made += most
    assert abs(made - 3000 * 1.7) <= 4


def test_an_offered_rate_does_not_make_up_for_a_long_stall() -> None:
    pace = OfferedRate(rate=1000.0)
    pace.spend(pace.due(1.0, Clocks()).most or 0)
    assert pace.due(100.0, Clocks()).most == 250
