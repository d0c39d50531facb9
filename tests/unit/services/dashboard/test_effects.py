"""Running totals give what the batch analysis of the same listens gives."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest

from core.welch import Sample, welch
from schemas.events import Listen
from services.dashboard.effects import METRICS, ListenerTotals, read_experiments


def listen(user: int, session: str, position: int, fraction: float, ended: bool, arm: str | None) -> Listen:
    treatments = {} if arm is None or position == 0 else {"X": arm}
    return Listen(
        f"{session}-{position}", user, 7, fraction, 1000, session, position, ended, "random", treatments, 0.1, 3.0
    )


def session_of(user: int, name: str, fractions: Iterable[float], arm: str | None) -> list[Listen]:
    heard = list(fractions)
    return [listen(user, name, at, fraction, at == len(heard) - 1, arm) for at, fraction in enumerate(heard)]


def totals_of(listens: Iterable[Listen], most_users: int = 1000) -> ListenerTotals:
    totals = ListenerTotals(most_users)
    for each in listens:
        totals.update(each)
    return totals


def test_effects_equal_the_batch_analysis() -> None:
    rng = np.random.default_rng(5)
    listens: list[Listen] = []
    time_per_session: dict[str, list[float]] = {"C": [], "T1": []}
    tracks_per_session: dict[str, list[float]] = {"C": [], "T1": []}
    for user in range(300):
        arm = "T1" if user % 2 else "C"
        sessions = [rng.random(int(rng.integers(2, 9))) for _ in range(int(rng.integers(1, 4)))]
        for at, fractions in enumerate(sessions):
            listens += session_of(user, f"{user}-{at}", fractions.tolist(), arm)
        time_per_session[arm].append(sum(fractions.sum() for fractions in sessions) / len(sessions))
        tracks_per_session[arm].append(sum(map(len, sessions)) / len(sessions))
    (reading,) = read_experiments(totals_of(listens))
    assert reading.listeners == {"C": 150, "T1": 150}
    for effect, values in zip(reading.effects, (time_per_session, tracks_per_session), strict=True):
        control, treated = Sample.of(values["C"]), Sample.of(values["T1"])
        expected = welch(control, treated)
        percent = 100 / control.mean
        assert (effect.effect, effect.lower, effect.upper) == pytest.approx(
            (expected.estimate * percent, expected.lower * percent, expected.upper * percent)
        )
    assert tuple(effect.metric for effect in reading.effects) == METRICS


def test_sessions_before_the_first_treated_one_do_not_count() -> None:
    before = session_of(1, "before", [1.0, 1.0], None)
    after = session_of(1, "after", [0.5, 0.5], "C")
    sessions, tracks, time = totals_of([*before, *after]).columns()
    assert (sessions.tolist(), tracks.tolist(), time.tolist()) == ([1], [2], [1.0])


def test_a_session_that_another_one_follows_is_over() -> None:
    left_open = session_of(1, "a", [0.5, 0.5, 0.5], "C")[:2]
    sessions, tracks, _ = totals_of([*left_open, *session_of(1, "b", [1.0, 1.0], "C")]).columns()
    assert (sessions.tolist(), tracks.tolist()) == ([2], [4])


def test_a_listener_seen_in_two_treatments_is_left_out() -> None:
    listens = session_of(1, "a", [0.5, 0.5], "C") + session_of(1, "b", [0.5, 0.5], "T1")
    listens += session_of(2, "c", [0.5, 0.5], "C")
    (reading,) = read_experiments(totals_of(listens))
    assert reading.listeners == {"C": 1}


def test_memory_is_bounded_and_the_rest_is_counted() -> None:
    listens = [each for user in range(10) for each in session_of(user, f"s{user}", [0.5, 0.5], "C")]
    totals = totals_of(listens, most_users=4)
    assert len(totals.columns()[0]) == 4
    assert totals.left_out == 6


def test_two_listeners_are_too_few_to_say() -> None:
    listens = session_of(1, "a", [0.5, 0.5], "C") + session_of(2, "b", [1.0, 1.0], "T1")
    (reading,) = read_experiments(totals_of(listens))
    assert reading.effects[0].effect == pytest.approx(100.0)
    assert math.isnan(reading.effects[0].lower)
    assert (reading.effects[0].side, reading.effects[0].said) == ("", "too few listeners")


def test_no_variance_gives_a_point() -> None:
    assert welch(Sample(9, 1.0, 0.0), Sample(9, 3.0, 0.0))[:3] == (2.0, 2.0, 2.0)
