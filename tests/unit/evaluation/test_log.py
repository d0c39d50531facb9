"""A replay changes what carries no meaning, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.log import Log, is_first
from botify.schemas.events import Track
from tests.unit.evaluation.logs import random_log


def test_a_replay_renames_items_and_their_tracks_alike() -> None:
    tracks = [Track(item, f"artist of {item}", None, None, str(item)) for item in range(40)]
    log = random_log()
    log = Log.of("with tracks", *log.events[:2], times_ms=log.events.times_ms, tracks=tracks)
    replayed = log.replayed(3)
    assert [track.track for track in replayed.tracks] == list(range(40))
    old = np.array([int(track.title) for track in replayed.tracks])  # of each new id
    before = sorted(zip(log.events.users.tolist(), log.events.items.tolist(), strict=True))
    after = sorted(zip(replayed.events.users.tolist(), old[replayed.events.items].tolist(), strict=True))
    assert before == after
    assert (old != np.arange(40)).any()


def test_events_of_one_second_of_a_user_are_together_and_in_an_order_of_the_seed() -> None:
    log = Log.of("ties", np.zeros(8, dtype=int), np.arange(8), times_ms=np.arange(8) * 100)
    orders = {tuple(np.argsort(log.replayed(seed).events.times_ms).tolist()) for seed in range(5)}
    assert len(orders) > 1
    assert all(log.replayed(seed).ties().tolist() == [0] for seed in range(5))


def test_time_stays_in_order() -> None:
    seconds = random_log().replayed(1).events.times_ms // 1000
    assert (np.diff(seconds) >= 0).all()


def test_without_times_users_are_interleaved_and_each_keeps_its_order() -> None:
    users = np.repeat(np.arange(5), 20)
    log = Log.of("sequences", users, np.tile(np.arange(20), 5))
    one, other = log.replayed(0), log.replayed(1)
    assert one.events.users.tolist() != other.events.users.tolist()
    assert np.count_nonzero(np.diff(one.events.users)) > 40
    back = {new: old for old, new in zip(range(20), np.random.default_rng(0).permutation(20).tolist(), strict=True)}
    for user in range(5):
        assert [back[item] for item in one.events.items[one.events.users == user].tolist()] == list(range(20))
    assert (np.diff(one.events.times_ms) > 0).all()


def test_sessions_end_by_a_pause_or_after_fifty_listens() -> None:
    timed = Log.of("timed", np.zeros(3, int), np.arange(3), times_ms=np.array([0, 60_000, 3_600_000]))
    assert timed.events.sessions.tolist() == [0, 0, 1]
    assert np.bincount(Log.of("untimed", np.zeros(120, int), np.arange(120)).events.sessions).tolist() == [50, 50, 20]


def test_repeats_are_found() -> None:
    assert is_first(np.array([1, 1, 2]), np.array([5, 5, 5]), 10).tolist() == [True, False, True]


def test_columns_of_other_lengths_are_refused() -> None:
    with pytest.raises(EvaluationError, match="must be equal"):
        Log.of("odd", np.zeros(3, int), np.zeros(2, int))
