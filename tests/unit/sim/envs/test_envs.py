"""The Gymnasium environments."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import botify.sim.envs  # noqa: F401 (registers the environment)
from botify.core.keyed_random import Keys
from botify.sim import SimulationError, WorldError
from botify.sim.envs.environments import environments_of
from botify.sim.listeners import MODELS
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.model import Ints, SessionStart
from botify.sim.loop.kafka import tracks_of
from botify.sim.world.model import World
from botify.sim.world.store import save_world


@pytest.mark.parametrize("model", [None, *MODELS])
def test_gymnasiums_own_checks_pass(small_world: World, model: str | None, recwarn: pytest.WarningsRecorder) -> None:
    name, slate = ("BotifySlate-v0", {"size": 4, "model": model}) if model else ("Botify-v0", dict[str, Any]())
    check_env(gymnasium.make(name, world=small_world, render_mode="ansi", **slate).unwrapped)
    assert [str(warning.message) for warning in recwarn] == []


def test_an_episode_is_a_session(small_world: World) -> None:
    env = gymnasium.make("Botify-v0", world=small_world)
    observation, info = env.reset(seed=1)
    assert observation["fraction"] == 1.0
    steps, terminated = 0, False
    while not terminated:
        track = env.action_space.sample()
        observation, reward, terminated, truncated, info = env.step(track)
        steps += 1
        assert not truncated
        assert (observation["track"], observation["position"]) == (track, steps)
        assert observation["fraction"] == pytest.approx(reward, abs=1e-6)
        assert info["artist"] == small_world.catalogue.artists[small_world.catalogue.artist_of[track]]
    assert steps >= 5
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)
    _, following = env.reset()
    assert following["session"] == info["session"] + 1
    assert following["timestamp_ms"] > info["timestamp_ms"]


def test_steps_before_a_reset_tracks_that_are_none_and_seeds_one_by_one_are_refused(small_world: World) -> None:
    single = gymnasium.make("Botify-v0", world=small_world).unwrapped
    vector = gymnasium.make_vec("Botify-v0", num_envs=2, world=small_world).unwrapped
    for env, action in ((single, 0), (vector, np.zeros(2))):
        with pytest.raises(gymnasium.error.ResetNeeded):
            env.step(action)
    for track in (-1, 400):
        for env, action in ((single, track), (vector, np.array([1, track]))):
            env.reset(seed=1)
            with pytest.raises(gymnasium.error.InvalidAction, match=f"track {track}; there are 0 to 399"):
                env.step(action)
    with pytest.raises(gymnasium.error.Error, match="one seed"):
        vector.reset(seed=[1, 2])  # type: ignore[arg-type]


def test_a_vector_of_one_hears_what_the_single_environment_hears(small_world: World) -> None:
    single = gymnasium.make("Botify-v0", world=small_world)
    vector = gymnasium.make_vec("Botify-v0", num_envs=1, world=small_world)
    one, _ = single.reset(seed=9)
    many, _ = vector.reset(seed=9)
    ended = False
    for n in range(200):
        action = n * 13 % 400
        if ended:
            (one, _), reward, ended = single.reset(), 0.0, False
        else:
            one, reward, ended, _, _ = single.step(action)
        many, rewards, terminated, _, _ = vector.step(np.array([action]))
        assert many.keys() == one.keys()
        assert all(np.ravel(many[name]).tolist() == np.ravel(value).tolist() for name, value in one.items())
        assert (rewards[0], terminated[0]) == (reward, ended)


def test_a_session_with_nothing_to_decide_is_no_episode(small_world: World) -> None:
    env = gymnasium.make("Botify-v0", world=small_world, model="streaming")  # one session in twenty has one track
    sessions = []
    for seed in range(100):
        _, info = env.reset(seed=seed)
        sessions.append(info["session"])
        env.step(0)
    assert max(sessions) > 0
    env = gymnasium.make("Botify-v0", world=small_world, model=f"{__name__}:OneTrack")
    with pytest.raises(SimulationError, match="1000 sessions ended with their first track"):
        env.reset(seed=1)


class OneTrack(BotifyListeners):
    """Listeners who leave after the track that they chose themselves."""

    def open(self, users: Ints, keys: Keys, time_ms: Ints) -> SessionStart:
        return replace(super().open(users, keys, time_ms), lengths=np.ones(len(users), dtype=np.int64))


def test_the_world_is_the_one_with_the_tracks_of_the_catalogue(small_world: World, tmp_path: Path) -> None:
    catalogue = {track.track: track for track in tracks_of(small_world.catalogue)}
    with pytest.raises(WorldError, match="botify sim"):
        environments_of(tmp_path, catalogue)
    save_world(tmp_path, small_world)
    seen, _ = environments_of(tmp_path, catalogue)().reset(seed=7)
    assert seen["user"] < 60
    del catalogue[399]
    with pytest.raises(WorldError, match="399 tracks"):
        environments_of(tmp_path, catalogue)
