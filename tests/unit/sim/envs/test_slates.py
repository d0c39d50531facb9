"""The Gymnasium environments of slates, and the choice models."""

from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest

import botify.sim.envs  # noqa: F401 (registers the environment)
from botify.core.keyed_random import mix
from botify.sim import SimulationError
from botify.sim.listeners.botify import StreamingListeners
from botify.sim.listeners.choice import cascade, chosen, logit
from botify.sim.world.model import World

SIZE = 4


def make(world: World, **settings: Any) -> Any:
    return gymnasium.make("BotifySlate-v0", world=world, size=SIZE, **settings).unwrapped


def test_a_listener_hears_what_was_chosen_or_leaves(small_world: World) -> None:
    impatient = replace(small_world.listeners, session_budget=np.ones(60, dtype=np.int32))
    env = make(replace(small_world, listeners=impatient), render_mode="ansi")
    rng, ends = np.random.default_rng(1), {"none": 0, "budget": 0}
    observation, _ = env.reset(seed=1)
    assert (observation["place"], observation["position"]) == (SIZE, 0)
    for _ in range(400):
        slate = rng.integers(400, size=SIZE)
        before = observation
        observation, reward, terminated, truncated, _ = env.step(slate)
        assert observation in env.observation_space
        assert not truncated
        if observation["place"] == SIZE:
            assert terminated
            assert (reward, observation["track"]) == (0.0, before["track"])
            assert env.render() == "the listener chose none of them and left"
        else:
            assert observation["track"] == slate[observation["place"]]
            assert observation["position"] == before["position"] + 1
            assert observation["fraction"] == pytest.approx(reward, abs=1e-6)
            assert env.render().startswith(f"place {observation['place']}: listener {observation['user']} heard")
        if terminated:
            ends["none" if observation["place"] == SIZE else "budget"] += 1
            with pytest.raises(gymnasium.error.ResetNeeded):
                env.step(slate)
            observation, _ = env.reset()
            assert (observation["place"], observation["position"]) == (SIZE, 0)
            assert env.render().startswith("listener ")
    assert min(ends.values()) > 5


def test_rows_do_not_depend_on_each_other(small_world: World) -> None:
    """Those who choose none keep their row; each starts its next session in the next step."""
    envs = gymnasium.make_vec("BotifySlate-v0", num_envs=50, world=small_world, size=SIZE).unwrapped
    observations, infos = envs.reset(seed=5)
    ended, begun = np.zeros(50, dtype=bool), 0
    for _ in range(40):
        before, sessions = observations, infos["session"]
        slates = envs.action_space.sample()
        observations, rewards, terminated, _, infos = envs.step(slates)
        assert observations in envs.observation_space
        played = observations["place"] < SIZE
        assert (slates[played, observations["place"][played]] == observations["track"][played]).all()
        assert ((infos["session"] != sessions) == ended).all()
        left = ~played & ~ended
        assert terminated[left].all()
        assert (observations["track"][left] == before["track"][left]).all()
        assert (rewards[~played] == 0).all()
        begun += ended.sum()
        ended = terminated
    assert begun > 100
    envs.reset()  # in the middle: who left, who stays and who would start are all in a new session
    observations, _, _, _, infos = envs.step(envs.action_space.sample())
    assert len(set(infos["session"].tolist())) == 50


def test_the_formulas() -> None:
    appeals = np.array([[0.5, 0.8, 0.2]])
    odds = np.array([1.0, 4.0 / 2, 0.25 / 3])
    np.testing.assert_allclose(logit(appeals)[0], odds / (1 + odds.sum()))
    np.testing.assert_allclose(cascade(appeals)[0], [0.5, 0.5 * 0.8 / 2, 0.5 * 0.2 * 0.2 / 3])
    certain = np.array([[1.0, 1.0]])
    for model in (logit, cascade):
        assert np.isfinite(model(certain)).all()
        assert model(certain)[0, 0] > 0.6
        assert (model(np.zeros((1, 3))) == 0).all()
        np.testing.assert_allclose(model(appeals[:, :1]), appeals[:, :1])  # alone, with the probability of its appeal
    np.testing.assert_array_equal(cascade(appeals)[0, :2], cascade(appeals[:, :2])[0])  # what follows does not matter
    assert logit(appeals)[0, 1] < logit(appeals[:, :2])[0, 1]
    places = chosen(np.tile([0.5, 0.2], (10_000, 1)), mix(1, np.arange(10_000)))
    assert (np.bincount(places) / 10_000).tolist() == pytest.approx([0.5, 0.2, 0.3], abs=0.02)


def test_a_choice_model_of_ones_own(small_world: World) -> None:
    env = make(small_world, choice=lambda appeals: np.tile([0.0, 1.0, 0.0, 0.0], (len(appeals), 1)))
    env.reset(seed=1)
    assert env.step(np.arange(SIZE))[0]["place"] == 1


def test_what_is_wrong_is_refused(small_world: World) -> None:
    with pytest.raises(SimulationError, match="size=0 is no size"):
        gymnasium.make("BotifySlate-v0", world=small_world, size=0)
    with pytest.raises(SimulationError, match="size=401 is no size"):
        gymnasium.make_vec("BotifySlate-v0", num_envs=2, world=small_world, size=401)
    with pytest.raises(SimulationError, match="'best' is not a choice model; there are logit, cascade"):
        make(small_world, choice="best")
    with pytest.raises(SimulationError, match="needs the method appeal"):
        make(small_world, model=f"{__name__}:OnlyHearing").reset(seed=1)
    env = make(small_world)
    env.reset(seed=1)
    with pytest.raises(gymnasium.error.InvalidAction, match=r"shape \(1, 3\) for 1 listeners and 4 places"):
        env.step(np.arange(3))
    with pytest.raises(gymnasium.error.InvalidAction, match="track 400; there are 0 to 399"):
        env.step(np.array([0, 1, 2, 400]))
    assert env.step(np.arange(SIZE))[0] in env.observation_space


class OnlyHearing:
    def __init__(self, world: World, seed: int) -> None:
        model = StreamingListeners(world, seed)
        self.open, self.fractions = model.open, model.fractions
