"""What a recommender is measured against: agents that know what is hidden.

`oracle` knows each session's interest, `scene` only its scene: what a perfect classifier of sessions would reach
without knowing any track. The *regret* is the distance to the oracle's time; ``closed = log(time / control) /
log(oracle / control)`` is the share of the way from the control to the oracle, in logs as times are products of many
good tracks in a row.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from botify.core.keyed_random import integers, mix
from botify.core.welch import Mean
from botify.sim.agents import Agent
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.listeners.model import INTEREST
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World

NEAREST = 700  # tracks that a session chooses from; more than a session hears


class Oracle:
    """Knows each session's interest, and greedily recommends the track with the highest true fraction at every step."""

    def __init__(self, world: World, seed: int) -> None:
        self._world = world
        self._seed = seed
        self._listeners = BotifyListeners(world, seed)
        self._open_sessions: dict[int, tuple[NDArray[np.int64], NDArray[np.float64]]] = {}

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        self._open(heard.where(heard.positions == 0))
        return np.array([self._next(*row) for row in zip(heard.users.tolist(), heard.tracks.tolist(), strict=True)])

    def finish(self, heard: FinishedListens) -> None:
        for user in heard.users.tolist():
            self._open_sessions.pop(user, None)

    def _open(self, heard: FinishedListens) -> None:
        if not len(heard):
            return
        users = heard.users
        keys = mix(self._seed, users, heard.ordinals)
        tastes = self._listeners.open(users, keys, heard.time_ms).tastes
        scores = tastes.astype(np.float32) @ self._world.catalogue.embeddings.T
        near = np.argpartition(-scores, min(NEAREST, scores.shape[1]) - 1, axis=1)[:, :NEAREST]
        people = self._world.listeners
        logits = np.take_along_axis(scores, near, axis=1) - people.consume_bias[users][:, None]
        affinity = expit(logits * people.consume_sharpness[users][:, None])
        self._open_sessions.update(zip(users.tolist(), zip(near, affinity, strict=True), strict=True))

    def _next(self, user: int, heard: int) -> int:
        tracks, values = self._open_sessions[user]
        artists = self._world.catalogue.artist_of
        values[artists[tracks] == artists[heard]] *= self._world.listeners.artist_discount_gamma[user]
        values[tracks == heard] = -1.0
        best = int(np.argmax(values))
        values[best] = -1.0
        return int(tracks[best])


class SceneClairvoyant:
    """Plays the tracks of each session's hidden scene, or genre without scenes, in random order, none twice."""

    def __init__(self, world: World, seed: int) -> None:
        catalogue = world.catalogue
        self._scene_of = catalogue.scene_of if (catalogue.scene_of >= 0).any() else catalogue.genre_of
        self._interests = world.listeners.interests
        self._seed = seed
        self._orders: dict[int, NDArray[np.int64]] = {}

    def recommend(self, heard: FinishedListens) -> NDArray[np.int64]:
        self._open(heard.where(heard.positions == 0))
        rows = zip(heard.users.tolist(), heard.positions.tolist(), strict=True)
        return np.array([self._orders[user][at % len(self._orders[user])] for user, at in rows])

    def finish(self, heard: FinishedListens) -> None:
        for user in heard.users.tolist():
            self._orders.pop(user, None)

    def _open(self, heard: FinishedListens) -> None:
        keys = mix(self._seed, heard.users, heard.ordinals)
        slots = integers(keys, INTEREST, self._interests.shape[1])
        scenes = self._scene_of[self._interests[heard.users, slots]]
        for user, key, scene, first in zip(heard.users.tolist(), keys, scenes, heard.tracks, strict=True):
            members = np.flatnonzero(self._scene_of == scene)
            others = members[members != first]
            self._orders[user] = np.random.default_rng(int(key)).permutation(others if len(others) else members)


ORACLE, SCENE = "oracle", "scene"
YARDSTICKS: Mapping[str, Callable[[World, int], Agent]] = {ORACLE: Oracle, SCENE: SceneClairvoyant}
SESSIONS = 3_000  # sessions of a yardstick next to a run of the real loop: its mean is known to two or three percent


def times_of_yardsticks(world: World, seed: int, sessions: int = SESSIONS) -> dict[str, float]:
    """Return the mean time of a session of each yardstick, on the first sessions of a run with this seed."""
    times = {}
    for name, agent in YARDSTICKS.items():
        done = play_world(world, agent(world, seed), RunOptions(sessions=sessions, seed=seed, start_ms=0))
        times[name] = done.time / done.sessions
    return times


class Gap(NamedTuple):
    """The distance to the oracle: regret in % of its time, and `closed` in %, NaN if it is not above the control.

    The interval is that of the effect: the times of control and oracle are taken as known.
    """

    regret_percent: float
    closed: Mean

    @classmethod
    def of(cls, effect_percent: Mean, control: float, oracle: float) -> "Gap":
        """Compute the gap of a recommender from its effect on the control's time."""
        whole = math.log(oracle / control) if oracle > control else math.nan
        shares = (100 * math.log(1 + effect / 100) / whole if effect > -100 else -math.inf for effect in effect_percent)
        time = control * (1 + effect_percent.estimate / 100)
        return cls(100 * (1 - time / oracle), Mean(*shares))

    def figures(self) -> dict[str, float | None]:
        """Return the gap by name, as the documentation quotes it; None for what is not finite."""
        named = zip(("closed_percent", "closed_lower", "closed_upper"), self.closed, strict=True)
        shares = {name: share if math.isfinite(share) else None for name, share in named}
        return {"regret_percent": self.regret_percent, **shares}

    def cells(self) -> tuple[str, str]:
        return f"{self.regret_percent:.1f}", "{:.0f} [{:.0f}, {:.0f}]".format(*self.closed)
