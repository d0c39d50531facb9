"""Gymnasium environments: one listener, and many at a time without a loop over them; their worlds and sessions."""

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from botify.core.keyed_random import integers, mix
from botify.core.settings import Settings
from botify.schemas.events import Track
from botify.sim import SimulationError, WorldError
from botify.sim.envs import ENV_ID
from botify.sim.listeners import load_model
from botify.sim.listeners.model import Floats, Ints
from botify.sim.schedule import PAUSE_MS, Arrivals
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world import World, find_world
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
    return world if isinstance(world, World) else find_world(Settings.from_env().home, world)


_USER_STREAM = 0  # random stream of the keys of arrivals


class WalkInSchedule:
    """Draws a listener for each session of a slot, as Botify's environment does."""

    def __init__(self, users: int, slots: int, seed: int) -> None:
        self.slots, self._users, self._seed = slots, users, seed

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


Columns = dict[str, Any]
Action = np.int64 | NDArray[np.int64]
SessionOpener = Callable[[int, int], SessionSlots]  # opens sessions side by side, given their number and a seed
MOST_PASSED_OVER = 1_000


class BotifyEnv(gymnasium.Env[Columns, Action]):
    """A session of one listener is an episode.

    - Action: the track to play next.
    - Reward: the fraction of it that the listener hears, 0 to 1.
    - Observation: see `observation_space`; after `reset` it is the track that the listener chose.
    - `terminated`: the listener left. `truncated` is never true.
    - `info`: `session` (int, unique in the environment), `artist` (str, of the track just heard) and `timestamp_ms`
      (int, event time at which the track ended).

    `world`: a world, the name or directory of a stored one, or None for the default world.
    `model`: name of a listener model, or `module:Class`.
    `render_mode`: `ansi`: `render` returns the last listen as text.

    Examples
    --------
    >>> import gymnasium, botify.sim.envs
    >>> from botify.sim.world.config import WorldConfig
    >>> from botify.sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})
    >>> env = gymnasium.make("Botify-v0", world=world)
    >>> observation, info = env.reset(seed=7)
    >>> observation["fraction"].tolist(), observation["position"].tolist()
    ([1.0], [0])
    >>> observation, reward, terminated, truncated, info = env.step(observation["track"])
    >>> reward  # a listener does not listen to a track twice in a session
    0.0
    """

    # Gymnasium declares it as an attribute of instances and reads it from the class.
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, world: World | str | None = None, model: str = "botify", render_mode: str | None = None) -> None:
        self._world = world_of(world)
        self.render_mode = render_mode
        self.action_space = action_space(self._world)
        self.observation_space = observation_space(self._world)
        self._open: SessionOpener = functools.partial(SessionSlots, self._world, model)
        self._session: SessionSlots | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Columns, dict[str, Any]]:
        """Start a session; without a seed, the next one of the same sequence.

        A session that ends with the listener's own first track has nothing to decide and is passed over. Raises
        `SimulationError` if `MOST_PASSED_OVER` sessions in succession are.
        """
        super().reset(seed=seed)
        if seed is not None or self._session is None:
            self._session = self._open(1, int(self.np_random.integers(2**62)))
        else:
            self._session.change()
        for _ in range(MOST_PASSED_OVER):
            if not self._session.heard.ended[0]:
                break
            self._session.change()
        else:
            raise SimulationError(f"{MOST_PASSED_OVER} sessions ended with their first track; take another model")
        return _only(self._session.observations()), _only(self._session.infos())

    def step(self, action: Action) -> tuple[Columns, float, bool, bool, dict[str, Any]]:
        """Take an action; raises `gymnasium.error.ResetNeeded` if the session has ended."""
        session = self._session
        if session is None or session.heard.ended[0]:
            raise gymnasium.error.ResetNeeded("no session is open; call reset() first")
        session.play(np.array([action], dtype=np.int64))
        ended = bool(session.heard.ended[0])
        return _only(session.observations()), float(session.rewards()[0]), ended, False, _only(session.infos())

    def render(self) -> str:
        """Return the last listen as text."""
        if self._session is None:
            return "no session is open"
        heard = _only(self._session.observations()) | _only(self._session.infos())
        title = self._world.catalogue.titles[heard["track"]]
        return f"listener {heard['user']} heard {heard['fraction'][0]:.0%} of {title} by {heard['artist']}"


def _only(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: column[0] for name, column in columns.items()}


class BotifyVectorEnv(VectorEnv[Columns, NDArray[np.int64], NDArray[Any]]):
    """`BotifyEnv` for many listeners: observations, rewards and each entry of `info` have a row for each listener.

    After the end of a session, the next step ignores the action and returns the first observation of the next session
    with a reward of 0 (Gymnasium's `AutoresetMode.NEXT_STEP`).
    """

    # Gymnasium declares it as an attribute of instances and reads it from the class.
    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, world: World | str | None = None, model: str = "botify") -> None:
        self._world = world_of(world)
        self.num_envs = num_envs
        self._open: SessionOpener = functools.partial(SessionSlots, self._world, model)
        self._session: SessionSlots | None = None
        self._use(action_space(self._world), observation_space(self._world))

    def _use(self, action: gymnasium.Space[Any], observation: gymnasium.Space[Any]) -> None:
        self.single_action_space, self.single_observation_space = action, observation
        self.action_space = batch_space(action, self.num_envs)
        self.observation_space = batch_space(observation, self.num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Columns, Columns]:
        """Start sessions; without a seed, the next ones of the same sequence.

        Raises `gymnasium.error.Error` if `seed` is a list: the listeners are drawn together, so there is one seed.
        """
        if isinstance(seed, list):
            raise gymnasium.error.Error(f"seed={seed} is a list; give one seed, from which all listeners are drawn")
        super().reset(seed=seed)
        if seed is not None or self._session is None:
            self._session = self._open(self.num_envs, int(self.np_random.integers(2**62)))
        else:
            self._session.change()
        return self._session.observations(), self._session.infos()

    def step(self, actions: NDArray[np.int64]) -> tuple[Columns, NDArray[Any], NDArray[Any], NDArray[Any], Columns]:
        """Take an action for each listener; raises `gymnasium.error.ResetNeeded` if `reset` has not been called."""
        if self._session is None:
            raise gymnasium.error.ResetNeeded("no session is open; call reset() first")
        self._session.play(np.asarray(actions, dtype=np.int64))
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        session = self._session
        return session.observations(), session.rewards(), session.heard.ended, truncated, session.infos()


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
