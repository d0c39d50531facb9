"""An agent in the Gymnasium environment that learns which track to play after which.

The environment is vectorised: a step plays a track to each of many listeners. The agent is a table of mean rewards by
(last track, track played); an untried pair has the greatest reward, so each is tried once.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from numpy.typing import NDArray

import botify.sim.envs  # noqa: F401 - registers Botify-v0
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

TRACKS = 60


class PairAgent:
    """Plays the track with the greatest mean reward after the same track, and sometimes a random one.

    Parameters
    ----------
    exploration : float
        Probability of a random track.

    Examples
    --------
    >>> agent = PairAgent(tracks=3, exploration=0.0, seed=1)
    >>> agent.learn(np.array([0, 0, 0]), np.array([0, 1, 2]), np.array([0.0, 1.0, 0.2]))
    >>> agent.act(np.array([0])).tolist()
    [1]
    """

    def __init__(self, tracks: int, exploration: float, seed: int) -> None:
        self._sums = np.ones((tracks, tracks))  # a prior reward of 1: untried pairs look best
        self._counts = np.ones((tracks, tracks))
        self._exploration = exploration
        self._rng = np.random.default_rng(seed)

    def act(self, heard: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return a track to play to each listener, given the last track of each."""
        best = (self._sums[heard] / self._counts[heard]).argmax(axis=1)
        tried = self._rng.integers(self._sums.shape[0], size=len(heard))
        return np.where(self._rng.random(len(heard)) < self._exploration, tried, best)

    def learn(self, heard: NDArray[np.int64], played: NDArray[np.int64], rewards: NDArray[np.float64]) -> None:
        """Add the rewards of the played tracks."""
        np.add.at(self._sums, (heard, played), rewards)
        np.add.at(self._counts, (heard, played), 1)


def train(steps: int, listeners: int = 64, seed: int = 7) -> NDArray[np.float64]:
    """Train the agent, and return the mean reward of each step, shape (steps,)."""
    world = World("example", *generate(WorldConfig(tracks=TRACKS, artists=12, genres=4, users=200, dimensions=8)), {})
    envs = gymnasium.make_vec("Botify-v0", num_envs=listeners, world=world)
    agent = PairAgent(TRACKS, exploration=0.05, seed=seed)
    observation, _ = envs.reset(seed=seed)
    began = np.zeros(listeners, dtype=np.bool_)  # after the end of a session, the next step starts another one
    means = []
    for _ in range(steps):
        heard = observation["track"]
        action = agent.act(heard)
        observation, rewards, terminated, _, _ = envs.step(action)
        agent.learn(heard[~began], action[~began], rewards[~began])
        means.append(float(rewards[~began].mean()))
        began = terminated
    envs.close()
    return np.array(means)


def main() -> None:
    """Train for 3,000 steps, and print the mean reward of each sixth of them."""
    means = train(3000)
    for part in np.split(means, 6):
        print(f"fraction heard of a recommended track: {part.mean():.3f}")


if __name__ == "__main__":
    main()
