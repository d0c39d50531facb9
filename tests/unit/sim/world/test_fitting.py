"""Worlds from logs: on logs whose groups and habits are known, and figures of logs written out by hand."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from botify.sim import WorldError
from botify.sim.agents import DummyAgent
from botify.sim.listeners import MODELS
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.world import World, find_world
from botify.sim.world.fitting import FitSettings, Groups, fit_world
from botify.sim.world.fitting.log import (
    NEIGHBOURS,
    ListeningLog,
    Order,
    Visits,
    halves,
    hit_rate,
    neighbours,
    overlap,
    synthetic_log,
)
from botify.sim.world.store import save_world

GROUPS, TRACKS, USERS = 4, 120, 240
SETTINGS = FitSettings(users=300, dimensions=6)
SOURCE = {"dataset": "grouped", "sha256": "0"}


def grouped_log(repeats: float = 0.0) -> ListeningLog:
    """Return a log in which users hear one group of tracks, its first tracks most, in two sessions of some tracks."""
    rng = np.random.default_rng(1)
    weights = 1.0 / np.arange(1, TRACKS // GROUPS + 1)
    rows: list[tuple[int, int, int]] = []
    for user in range(USERS):
        places = rng.choice(TRACKS // GROUPS, size=24, replace=False, p=weights / weights.sum())
        tracks = places * GROUPS + user % GROUPS
        lengths = rng.integers(3, 12, size=2)
        for session, start in enumerate((0, lengths[0])):
            heard = tracks[start : start + lengths[session]]
            if session:
                heard = np.where(rng.random(len(heard)) < repeats, tracks[: len(heard)], heard)
            rows += [(user, int(track), 2 * user + session) for track in heard]
    return ListeningLog(*np.array(rows).T, TRACKS)


NO_NAMES = Groups.of([None] * TRACKS, [None] * TRACKS)


@pytest.fixture(scope="module")
def log() -> ListeningLog:
    return grouped_log()


@pytest.fixture(scope="module")
def world(log: ListeningLog) -> World:
    return fit_world(log, NO_NAMES, SOURCE, SETTINGS)


def test_figures_of_a_log_by_hand() -> None:
    users, tracks = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([0, 1, 0, 0, 1, 0, 2, 3])
    log = ListeningLog(users, tracks, np.array([0, 0, 1, 2, 2, 3, 3, 4]), 10)
    assert log.counts().tolist() == [4, 2, 1, 1, 0, 0, 0, 0, 0, 0]
    assert log.session_lengths().tolist() == [2, 1, 2, 2, 1]
    assert log.repeats() == pytest.approx(1 / 8)
    assert log.share_of_top(0.1) == pytest.approx(0.5)
    assert log.share_of_top(0.2) == pytest.approx(0.75)
    even = ListeningLog(np.zeros(10, dtype=int), np.arange(10), np.zeros(10, dtype=int), 10)
    assert even.gini() == pytest.approx(0.0)
    assert ListeningLog(np.zeros(9, dtype=int), np.zeros(9, dtype=int), np.zeros(9, dtype=int), 10).gini() == 0.9


def test_a_users_last_new_track_is_looked_for_among_those_not_heard() -> None:
    # eleven tracks that all hear together, and each user's last is one of them: found; for a track of its own: not
    users = np.repeat(np.arange(6), 11)
    tracks = np.concatenate([np.roll(np.arange(11), user) for user in range(6)])
    together = ListeningLog(users, tracks, users, 40)
    assert hit_rate(together) == 1.0
    apart = tracks.copy()
    apart[10::11] = np.arange(20, 26)
    assert hit_rate(replace(together, tracks=apart)) == 0.0


def test_neighbours_are_those_of_the_group_and_the_overlap_of_a_log_with_itself_is_whole(log: ListeningLog) -> None:
    found = neighbours(log)
    known = found[:, 0] >= 0
    assert known.sum() > 60
    assert (found[known] % GROUPS == np.flatnonzero(known)[:, None] % GROUPS).mean() > 0.99
    assert overlap(log, log) == 1.0
    fitted, held_out = halves(log, seed=1)
    assert NEIGHBOURS / TRACKS < overlap(fitted, held_out) < 1.0
    assert len(fitted) + len(held_out) == len(log)
    assert not set(fitted.sessions) & set(held_out.sessions)
    assert fitted.user_count == pytest.approx(USERS / 2, rel=0.2)


def test_the_world_plays_like_the_log(log: ListeningLog, world: World) -> None:
    synthetic = synthetic_log(world, USERS, seed=5)
    assert synthetic.gini() == pytest.approx(log.gini(), abs=0.1)
    assert synthetic.share_of_top(0.1) == pytest.approx(log.share_of_top(0.1), rel=0.2)
    assert hit_rate(synthetic) == pytest.approx(hit_rate(log), abs=0.12)
    assert overlap(synthetic, log) > 5 * NEIGHBOURS / TRACKS
    assert np.median(synthetic.session_lengths()) == pytest.approx(np.median(log.session_lengths()), abs=2)
    assert len(synthetic.session_lengths()) == 2 * USERS


def test_the_same_log_and_settings_give_the_same_world(log: ListeningLog, world: World) -> None:
    again = fit_world(log, NO_NAMES, SOURCE, SETTINGS)
    assert (again.name, again.about) == (world.name, world.about)
    for part, before in ((again.catalogue, world.catalogue), (again.listeners, world.listeners)):
        for name in part.__slots__:
            np.testing.assert_array_equal(getattr(part, name), getattr(before, name))
    assert fit_world(log, NO_NAMES, SOURCE, replace(SETTINGS, seed=2)).name != world.name
    assert fit_world(log, NO_NAMES, SOURCE | {"sha256": "1"}, SETTINGS).name != world.name


def test_nothing_of_the_log_is_in_the_world_but_parameters(log: ListeningLog, world: World, tmp_path: Path) -> None:
    """A user whose listens are those of others changes parameters, and no listener is like a user of the log."""
    directory = save_world(tmp_path, world)
    about = json.loads((directory / "world.json").read_text())["about"]
    assert about["fitted"].keys() == {
        "dataset", "sha256", "version", "strength", "repeats", "sessions_a_listener", "session_lengths",
    }  # fmt: skip
    assert len(about["fitted"]["session_lengths"]) == 25
    heard = log.matrix()
    centres = heard @ world.catalogue.embeddings[:, :-1] / heard.sum(axis=1)[:, None]
    assert np.linalg.norm(world.listeners.tastes[:, 0, :-1][:, None] - centres, axis=2).min() > 1e-3


def test_a_fitted_world_is_stored_found_and_played_with_every_model(world: World, tmp_path: Path) -> None:
    save_world(tmp_path, world)
    stored = find_world(tmp_path, world.name[:6])
    np.testing.assert_array_equal(stored.listeners.tastes, world.listeners.tastes)
    for model in MODELS:
        options = RunOptions(sessions=40, in_flight=20, seed=3, start_ms=0, model=model)
        one, other = (play_world(each, DummyAgent(each.catalogue, 1), options) for each in (world, stored))
        assert (one.listens, one.time) == (other.listens, other.time)


def test_repeats_are_of_earlier_sessions_and_as_many(world: World) -> None:
    log = grouped_log(repeats=0.5)
    fitted = fit_world(log, NO_NAMES, SOURCE, SETTINGS)
    synthetic = synthetic_log(fitted, USERS, seed=5)
    assert log.repeats() > 0.2
    assert fitted.about["fitted"]["repeats"] == log.repeats()
    # in a user's first session there is nothing to repeat
    assert 0.3 * log.repeats() < synthetic.repeats() < 1.2 * log.repeats()
    pairs = synthetic.sessions * TRACKS + synthetic.tracks
    assert len(np.unique(pairs)) == len(pairs)


def test_artists_and_genres_are_those_of_the_catalogue_under_drawn_names(log: ListeningLog) -> None:
    artists = [None if track % 10 == 0 else f"artist {track // 3}" for track in range(TRACKS)]
    genres = ["g" if track % 2 else None for track in range(TRACKS)]
    catalogue = fit_world(log, Groups.of(artists, genres), SOURCE, SETTINGS).catalogue
    of = catalogue.artist_of
    assert of[1] == of[2] != of[3]
    assert (np.bincount(of)[of[::10]] == 1).all()
    assert catalogue.genre_of.tolist() == [0 if track % 2 else -1 for track in range(TRACKS)]
    assert not set(catalogue.artists) & set(artists)


def test_a_log_that_is_too_small_is_refused(log: ListeningLog) -> None:
    with pytest.raises(WorldError, match=r"too small .* give 100 listens"):
        fit_world(log.of_users(np.arange(USERS) < 3), NO_NAMES, SOURCE, SETTINGS)
    with pytest.raises(WorldError, match="users = 0 must be 1 or more"):
        FitSettings(users=0)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_the_order_of_sessions_is_found(share: float) -> None:
    rng = np.random.default_rng(1)
    tracks = rng.integers(50, size=(600, 10))  # 600 sessions
    for place in range(1, 10):
        follows = rng.random(600) < share
        tracks[follows, place] = (tracks[follows, place - 1] + 1) % 50
    order = Order.of(tracks.ravel(), np.repeat(np.arange(600), 10), 50)
    assert order.share == pytest.approx(share, abs=0.15)
    assert len(order.followers) == 600 * 9
    assert (order.after(7) == 8).mean() == pytest.approx(share + (1 - share) / 50, abs=0.1)


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
