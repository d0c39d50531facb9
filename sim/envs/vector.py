"""Many listeners at a time, as a native Gymnasium vector environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from sim.envs.session import SessionSlots, action_space, observation_space, world_of
from sim.world.model import World

Columns = dict[str, Any]


class BotifyVectorEnv(VectorEnv[Columns, NDArray[np.int64], NDArray[Any]]):
    """As `BotifyEnv`, one row for each listener, without a loop over them.

    Where a session has ended, the next step ignores the action and returns the first observation of the next session
    with a reward of 0 (Gymnasium's `AutoresetMode.NEXT_STEP`). Each entry of `info` is an array with a row for each
    listener.

    Parameters
    ----------
    num_envs : int
    world : World | str | None
        A world, the name or directory of a stored one, or None for the default world.
    model : str
        Name of a listener model, or `module:Class`.

    Examples
    --------
    >>> import gymnasium, sim.envs
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})
    >>> envs = gymnasium.make_vec("Botify-v0", num_envs=3, world=world)
    >>> observations, infos = envs.reset(seed=7)
    >>> observations, rewards, terminated, truncated, infos = envs.step(envs.action_space.sample())
    >>> rewards.shape, observations["fraction"].shape
    ((3,), (3, 1))
    """

    # Gymnasium declares it as an instance's, and reads it from the class.
    metadata: dict[str, Any] = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012

    def __init__(self, num_envs: int = 1, world: World | str | None = None, model: str = "botify") -> None:
        self._world = world_of(world)
        self._model = model
        self.num_envs = num_envs
        self.single_action_space = action_space(self._world)
        self.single_observation_space = observation_space(self._world)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self._session: SessionSlots | None = None

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Columns, Columns]:
        """Let listeners sit down; without a seed, the next ones of the same sequence.

        Raises
        ------
        gymnasium.error.Error
            Seeds were given one by one: the listeners are drawn together, so there is one seed.
        """
        if isinstance(seed, list):
            raise gymnasium.error.Error(f"seed={seed}: one seed, not a list, draws all listeners")
        super().reset(seed=seed)
        if seed is not None or self._session is None:
            drawn = int(self.np_random.integers(2**62))
            self._session = SessionSlots(self._world, self._model, self.num_envs, drawn)
        else:
            self._session.change()
        return self._session.observations(), self._session.infos()

    def step(self, actions: NDArray[np.int64]) -> tuple[Columns, NDArray[Any], NDArray[Any], NDArray[Any], Columns]:
        """Play a track to each listener.

        Raises
        ------
        gymnasium.error.ResetNeeded
            Nobody has sat down yet.
        """
        if self._session is None:
            raise gymnasium.error.ResetNeeded("no session is open; call reset() first")
        self._session.play(np.asarray(actions, dtype=np.int64))
        truncated = np.zeros(self.num_envs, dtype=np.bool_)
        session = self._session
        return session.observations(), session.rewards(), session.heard.ended, truncated, session.infos()
