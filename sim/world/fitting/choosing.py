"""What listeners of a fitted world play when they choose themselves, and the synthetic log of that."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.core.keyed_random import integers, mix, uniform
from botify.sim.listeners.model import INTEREST, OWN_CHOICE, Ints
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.fitting.log import ListeningLog
from botify.sim.world.model import World

_CHOICE, _REPEATS, _WHICH = 0, 1, 2
_MOST_LOGITS = 4_000_000
"""Logits that are in memory at the same time."""
_IN_CACHE = 30_000
"""Of them, those that are drawn from at a time."""


class OwnChoice:
    """Listeners who choose: an agent that knows the session's interest.

    A new track is drawn with probability proportional to ``exp(⟨track, taste⟩)`` among those that the listener has
    not heard; with the probability `repeats` the listener plays a track of an earlier session instead.

    `users`: number of listeners who take part.
    `seed`: that of the run, so that the interest is the session's.
    """

    def __init__(self, world: World, users: int, repeats: float, seed: int) -> None:
        self._embeddings, self._tastes = world.catalogue.embeddings, tastes_of(world)
        self._repeats, self._seed = repeats, seed
        self._heard = np.zeros((users, len(world.catalogue)), dtype=np.bool_)
        self._of_session = np.zeros_like(self._heard) if repeats else self._heard

    def recommend(self, heard: FinishedListens) -> Ints:
        """Choose a track for each listen."""
        self._remember(heard)
        chunk = max(1, _MOST_LOGITS // len(self._embeddings))
        chosen = [
            self._choose(heard.where(np.arange(start, min(start + chunk, len(heard)))))
            for start in range(0, len(heard), chunk)
        ]
        return np.concatenate(chosen)

    def _choose(self, heard: FinishedListens) -> Ints:
        keys = mix(self._seed, heard.users, heard.ordinals)
        slots = integers(keys, INTEREST, self._tastes.shape[1])
        of_listen = mix(keys, OWN_CHOICE, heard.positions)
        chosen = self._choose_again(heard.users, of_listen)
        new = np.flatnonzero(chosen < 0)
        users = heard.users[new]
        logits = self._tastes[users, slots[new]] @ self._embeddings.T
        np.putmask(logits, self._heard[users], -np.inf)
        chosen[new] = draw(logits, uniform(of_listen[new], _CHOICE))
        return chosen

    def _choose_again(self, users: Ints, of_listen: NDArray[np.uint64]) -> Ints:
        """Return a track of an earlier session, -1 where the listener plays a new one."""
        chosen = np.full(len(users), -1, dtype=np.int64)
        rows = np.flatnonzero(uniform(of_listen, _REPEATS) < self._repeats)
        for row, share in zip(rows.tolist(), uniform(of_listen[rows], _WHICH).tolist(), strict=True):
            earlier = np.flatnonzero(self._heard[users[row]] > self._of_session[users[row]])
            if len(earlier):
                chosen[row] = earlier[int(share * len(earlier))]
        return chosen

    def finish(self, heard: FinishedListens) -> None:
        """Remember the last listens of sessions."""
        self._remember(heard)

    def _remember(self, heard: FinishedListens) -> None:
        self._heard[heard.users, heard.tracks] = True
        if self._repeats:
            self._of_session[heard.users[heard.positions == 0]] = False
            self._of_session[heard.users, heard.tracks] = True


def tastes_of(world: World) -> NDArray[np.float32]:
    """Return what the interests of all listeners look for, shape (users, interests, dimensions)."""
    tastes = world.listeners.tastes
    return world.catalogue.embeddings[world.listeners.interests] if tastes is None else tastes


def draw(logits: NDArray[np.floating], uniforms: NDArray[np.float64]) -> Ints:
    """Draw an index of each row with probability proportional to the exponential of its logit; logits are changed."""
    drawn, some = np.empty(len(logits), dtype=np.int64), max(1, _IN_CACHE // logits.shape[1])
    for start in range(0, len(logits), some):
        part, rows = logits[start : start + some], slice(start, start + some)
        part -= part.max(axis=1, keepdims=True)
        sums = np.cumsum(np.exp(part, out=part), axis=1, dtype=np.float64)
        drawn[rows] = (sums <= uniforms[rows, None] * sums[:, -1:]).sum(axis=1)
    return drawn


MOST_LISTENERS = 2_000
"""Listeners of a synthetic log, at most: what each of them has heard is kept for all tracks."""


def synthetic_log(world: World, users: int, seed: int) -> ListeningLog:
    """Play sessions of listeners who choose themselves, as many for each as in the log that the world was fitted to.

    Parameters
    ----------
    world : World
        A fitted one.
    users : int
        Number of listeners.
    seed : int
        Of the run.
    """
    fitted = world.about["fitted"]
    users = min(users, MOST_LISTENERS, len(world.listeners))
    sessions = max(1, round(users * fitted["sessions_a_listener"]))
    agent = OwnChoice(world, users, fitted["repeats"], seed)
    played: list[FinishedListens] = []
    options = RunOptions(users=users, in_flight=users, sessions=sessions, seed=seed, start_ms=0)
    play_world(world, agent, options, listener=played.append)
    who, what, when, which = (
        np.concatenate([getattr(heard, name) for heard in played])
        for name in ("users", "tracks", "time_ms", "ordinals")
    )
    order = np.argsort(when, kind="stable")
    sessions_of = who * (int(which.max()) + 1) + which
    return ListeningLog(
        np.unique(who[order], return_inverse=True)[1], what[order], sessions_of[order], len(world.catalogue)
    )
