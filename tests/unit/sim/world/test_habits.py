"""Habits are measured as they were planted."""

import numpy as np
import pytest

from botify.sim.world.fitting.log import Order, Visits

TRACKS, SESSIONS, LENGTH = 50, 600, 10


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_order_of_sessions_is_found(share: float) -> None:
    rng = np.random.default_rng(1)
    tracks = rng.integers(TRACKS, size=(SESSIONS, LENGTH))
    for place in range(1, LENGTH):
        follows = rng.random(SESSIONS) < share
        tracks[follows, place] = (tracks[follows, place - 1] + 1) % TRACKS
    order = Order.of(tracks.ravel(), np.repeat(np.arange(SESSIONS), LENGTH), TRACKS)
    assert order.share == pytest.approx(share, abs=0.15)
    assert len(order.followers) == SESSIONS * (LENGTH - 1)
    assert (order.after(7) == 8).mean() == pytest.approx(share + (1 - share) / TRACKS, abs=0.1)


def test_sessions_of_one_listen_have_no_order() -> None:
    order = Order.of(np.arange(5), np.arange(5), 5)
    assert (order.share, order.after(3).tolist()) == (0.0, [])


def test_residents_hear_all_the_time_and_others_come_once() -> None:
    visits = Visits.of(np.array([3, 3, 3, 9, 9]), np.array([0, 500, 1_000, 100, 120]))
    assert visits.begins.round(2).tolist() == [0, 0.1]
    assert visits.stays.round(2).tolist() == [1.0, 0.02]
    users, places = np.repeat(np.arange(40), 4), np.tile(np.arange(4), 40)
    others, times = visits.placed(users, places, places >= 2, seed=1)
    others, times = others.reshape(40, 4), times.reshape(40, 4)
    come_once = others[:, 2]
    assert 5 < come_once.sum() < 35
    assert not others[:, :2].any()
    assert np.allclose(np.ptp(times[~come_once], axis=1), 1.5)
    visited = times[come_once]
    assert ((visited[:, :2] > 0.09) & (visited[:, :2] < 0.13)).all()
    assert ((visited[:, 2:] > 1.09) & (visited[:, 2:] < 1.13)).all()
