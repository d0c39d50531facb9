"""Slates in the Gymnasium environment: log one policy, estimate another from the log, then run it.

The logging policy fills slates evenly from a few tracks of the genre just heard. The other one puts those of them first
that were heard longest in a first log, and is estimated from a second one. Each session is shown one slate, so that
what is estimated is what running the policy shows.
"""

from __future__ import annotations

import gymnasium
import numpy as np
from numpy.typing import NDArray

import botify.sim.envs  # noqa: F401 - registers BotifySlate-v0
from botify.analytics.offline.off_policy import PolicyValue, ips, snips
from botify.analytics.offline.slates import Slates, cascade_ips, cascade_snips, drawn_slates, whole_slates
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World

LISTENERS, TRACKS, OF, SIZE = 500, 80, 8, 3
EXPLORE = 0.2
"""Probability that a place of the other policy is drawn evenly."""

Ints = NDArray[np.int64]


class ListPolicy:
    """Fills slates from lists, one for each track that was just heard.

    Parameters
    ----------
    lists : ndarray of int64, shape (tracks, k)
    explore : float
        As in `botify.analytics.offline.slates.drawn_slates`, which has its probabilities.
    """

    def __init__(self, lists: Ints, explore: float) -> None:
        self.lists = lists
        self._explore = explore

    def show(self, heard: Ints, rng: np.random.Generator) -> Ints:
        """Return a slate for each listener, shape (n, SIZE)."""
        left, slates = self.lists[heard], np.empty((len(heard), SIZE), dtype=np.int64)
        for place in range(SIZE):
            drawn = rng.integers(left.shape[1], size=len(left))
            at = np.where(rng.random(len(left)) < self._explore, drawn, 0)
            slates[:, place] = left[np.arange(len(left)), at]
            left = left[left != slates[:, place, None]].reshape(len(left), -1)
        return slates

    def probabilities(self, heard: Ints, slates: Ints) -> NDArray[np.float64]:
        """Return the probability of each place, given those before it."""
        return drawn_slates(self.lists[heard], slates, self._explore)


def play(world: World, policy: ListPolicy, rounds: int, seed: int, choice: str) -> tuple[Ints, Slates]:
    """Show one slate to each listener of each round; return the tracks heard before, and the log."""
    envs = gymnasium.make_vec("BotifySlate-v0", num_envs=LISTENERS, world=world, size=SIZE, choice=choice)
    rng, n = np.random.default_rng(seed), rounds * LISTENERS
    users, before, shown, rewards = np.empty(n, np.int64), np.empty(n, np.int64), [], np.zeros((n, SIZE + 1))
    for first in range(0, n, LISTENERS):
        rows = np.arange(first, first + LISTENERS)
        observation, _ = envs.reset(seed=seed if first == 0 else None)
        users[rows], before[rows] = observation["user"], observation["track"]
        shown.append(policy.show(observation["track"], rng))
        observation, heard, *_ = envs.step(shown[-1])
        rewards[rows, observation["place"]] = heard
    envs.close()
    slates = np.concatenate(shown)
    return before, Slates(users, np.arange(n), slates, policy.probabilities(before, slates), rewards[:, :SIZE])


def better(lists: Ints, before: Ints, log: Slates) -> Ints:
    """Return the lists with the tracks first of which more was heard after the same track."""
    shown, heard = np.ones((TRACKS, TRACKS)), np.full((TRACKS, TRACKS), log.rewards.mean())
    np.add.at(shown, (before[:, None], log.tracks), 1)
    np.add.at(heard, (before[:, None], log.tracks), log.rewards)
    order = np.argsort(-np.take_along_axis(heard / shown, lists, axis=1), axis=1)
    return np.take_along_axis(lists, order, axis=1)


def evaluate(rounds: int = 40, seed: int = 7, choice: str = "cascade") -> tuple[float, dict[str, PolicyValue], float]:
    """Return what the logging policy's slates were heard, the other's estimates, and what running it shows."""
    world = World("example", *generate(WorldConfig(tracks=TRACKS, artists=16, genres=4, users=400, dimensions=8)), {})
    rng, genres = np.random.default_rng(seed), world.catalogue.genre_of
    near = rng.random((TRACKS, TRACKS)) + (genres[:, None] == genres)
    np.fill_diagonal(near, 0.0)
    logging = ListPolicy(np.argsort(-near, axis=1)[:, :OF], explore=1.0)
    other = ListPolicy(better(logging.lists, *play(world, logging, rounds, seed, choice)), EXPLORE)
    before, log = play(world, logging, rounds, seed + 1, choice)
    targets = other.probabilities(before, log.tracks)
    whole = whole_slates(log, targets)
    values = {
        "IPS": ips(whole),
        "SNIPS": snips(whole),
        "cascade IPS": cascade_ips(log, targets),
        "cascade SNIPS": cascade_snips(log, targets),
    }
    ran = play(world, other, rounds, seed + 2, choice)[1]
    return float(log.rewards.sum(axis=1).mean()), values, float(ran.rewards.sum(axis=1).mean())


def main() -> None:
    """Print the values, for listeners who look from the top and for listeners who compare all tracks."""
    for choice in ("cascade", "logit"):
        logged, values, ran = evaluate(choice=choice)
        print(f"{choice}: {logged:.3f} of a track heard from each logged slate")
        for name, value in values.items():
            print(
                f"  {name:13} {value.value:.3f}  ({value.lower:.3f} … {value.upper:.3f})  "
                f"{value.effective_decisions:,.0f} slates count"
            )
        print(f"  {'when it ran':13} {ran:.3f}")


if __name__ == "__main__":
    main()
