"""Gymnasium environments: one listener, and many at a time without a loop over them."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from botify.sim import SimulationError
from botify.sim.envs.session import SessionSlots, action_space, observation_space, world_of
from botify.sim.world.model import World

Columns = dict[str, Any]
Action = np.int64 | NDArray[np.int64]
SessionOpener = Callable[[int, int], SessionSlots]  # opens sessions side by side, given their number and a seed
MOST_PASSED_OVER = 1_000


class BotifyEnv(gymnasium.Env[Columns, Action]):
    """A session of one listener is an episode.

    - Action: the track to play next.
    - Reward: the fraction of it that the listener hears, 0 to 1.
    - Observation: see `sim.envs.session.observation_space`; after `reset` it is the track that the listener chose.
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
        self._open: SessionOpener = lambda slots, seed: SessionSlots(self._world, model, slots, seed)
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
        self._open: SessionOpener = lambda slots, seed: SessionSlots(self._world, model, slots, seed)
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
