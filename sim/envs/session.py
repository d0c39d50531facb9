"""Worlds, spaces and sessions of the environments."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from botify.core.keyed_random import integers, mix
from botify.core.settings import Settings
from botify.schemas.events import Track
from botify.sim import WorldError
from botify.sim.envs import ENV_ID
from botify.sim.listeners import load_model
from botify.sim.listeners.model import Floats, Ints
from botify.sim.schedule import PAUSE_MS, Arrivals
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world import DEFAULT, World, find_world, open_world
from botify.sim.world.store import load_world, worlds_directory


def action_space(world: World) -> spaces.Discrete:
    """Return the space of actions: the tracks."""
    return spaces.Discrete(len(world.catalogue))


def observation_space(world: World) -> spaces.Dict:
    """Return the space of observations: `user`, `track`, `fraction` of shape (1,), and `position` from 0."""
    return spaces.Dict(
        user=spaces.Discrete(len(world.listeners)),
        track=spaces.Discrete(len(world.catalogue)),
        fraction=spaces.Box(0.0, 1.0, shape=(1,), dtype=np.float32),
        position=spaces.Box(0, np.iinfo(np.int32).max, shape=(1,), dtype=np.int32),
    )


def world_of(world: World | str | None) -> World:
    """Return the given world, the stored one of that name or directory (or `WorldError`), or the default world."""
    if isinstance(world, World):
        return world
    home = Settings.from_env().home
    return open_world(home, DEFAULT) if world is None else find_world(home, world)


_USER_STREAM = 0  # random stream of the keys of arrivals


class WalkInSchedule:
    """Draws a listener for each session of a slot, as Botify's environment does."""

    def __init__(self, users: int, slots: int, seed: int) -> None:
        self.slots = slots
        self._users = users
        self._seed = seed

    def arrivals(self, slots: Ints, turns: Ints, after_ms: Ints) -> Arrivals:
        """Draw the next listener of each slot; a session's ordinal is unique over all slots."""
        ordinals = turns * self.slots + slots
        users = integers(mix(self._seed, ordinals), _USER_STREAM, np.int64(self._users))
        return Arrivals(users, ordinals, after_ms + PAUSE_MS)


_NO_LIMIT_MS = 2**62


class SessionSlots:
    """Sessions side by side; each of them has one listen in every round."""

    heard: FinishedListens  # the last listen of each slot, in the order of the slots

    def __init__(self, world: World, model: str, slots: int, seed: int) -> None:
        self._catalogue = world.catalogue
        self._artists = np.array(world.catalogue.artists, dtype=object)
        schedule = WalkInSchedule(len(world.listeners), slots, seed)
        self._model = load_model(model, world, seed)
        self._simulation = Simulation(world, self._model, schedule, seed)
        self._listen()

    def play(self, tracks: NDArray[np.int64]) -> None:
        """Play a track to each listener; a slot whose session ended starts the next one with the listener's own track.

        Raises `gymnasium.error.InvalidAction` if a track does not exist, or there is not one for each listener.
        """
        staying = ~self.heard.ended
        if tracks.shape != staying.shape:
            raise gymnasium.error.InvalidAction(f"actions of shape {tracks.shape} for {len(staying)} listeners")
        self._require_known(tracks[staying])
        self._simulation.answer(self.heard.slots[staying], tracks[staying])
        self._listen()

    def change(self) -> None:
        """End all sessions and start the next ones."""
        self._simulation.abandon(self._simulation.asking)
        self._listen()

    def observations(self) -> dict[str, Any]:
        """Return the columns of the observation space, one row for each slot."""
        heard = self.heard
        return {
            "user": heard.users,
            "track": heard.tracks,
            "fraction": heard.fractions[:, None].astype(np.float32),
            "position": heard.positions[:, None].astype(np.int32),
        }

    def infos(self) -> dict[str, Any]:
        """Return the columns of the info, one row for each slot."""
        heard = self.heard
        return {
            "session": heard.ordinals,
            "artist": self._artists[self._catalogue.artist_of[heard.tracks]],
            "timestamp_ms": heard.time_ms,
        }

    def rewards(self) -> Floats:
        """Return the fraction heard of each track played; 0 for a track that the listener chose."""
        return np.where(self.heard.positions > 0, self.heard.fractions, 0.0)

    def _require_known(self, tracks: Ints) -> None:
        if (unknown := tracks[(tracks < 0) | (tracks >= len(self._catalogue))]).size:
            raise gymnasium.error.InvalidAction(f"track {unknown[0]}; there are 0 to {len(self._catalogue) - 1}")

    def _listen(self) -> None:
        listens = self._simulation.finish_listens(_NO_LIMIT_MS)
        self.heard = listens.where(np.argsort(listens.slots))


MakeEnvironment = Callable[[], Any]


def environments_of(home: Path, catalogue: Mapping[int, Track]) -> MakeEnvironment:
    """Return what makes environments of the stored world with these tracks; raises `WorldError` if none has them."""
    for about in sorted(worlds_directory(home).glob("*/tracks.json")):
        if _has_tracks(about, catalogue):
            return functools.partial(gymnasium.make, ENV_ID, world=_load(about.parent), disable_env_checker=True)
    raise WorldError(
        f"no world in {worlds_directory(home)} has the {len(catalogue):,} tracks of the catalogue; `botify sim` "
        "stores the world that it simulates, on the machine where it runs"
    )


def _has_tracks(path: Path, catalogue: Mapping[int, Track]) -> bool:
    """Return whether a file has as many tracks as the catalogue, and the first of it."""
    with path.open(encoding="utf-8") as lines:
        first = json.loads(next(lines, "{}"))
        count = 1 + sum(1 for _ in lines)
    known = catalogue.get(int(first.get("track", -1)))
    of_known = None if known is None else (known.artist, known.title)
    return count == len(catalogue) and of_known == (first.get("artist"), first.get("title"))


@functools.lru_cache(maxsize=1)
def _load(directory: Path) -> World:
    return load_world(directory)
