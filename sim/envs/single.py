"""One listener at a time, as a Gymnasium environment."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from sim.envs.session import SessionSlots, action_space, observation_space, world_of
from sim.world.model import World

Observation = dict[str, Any]


class BotifyEnv(gymnasium.Env[Observation, np.int64]):
    """A session of one listener is an episode.

    - Action: the track to play next.
    - Reward: the fraction of it that the listener hears, 0 to 1.
    - Observation: see `sim.envs.session.observation_space`; after `reset` it is the track that the listener chose.
    - `terminated`: the listener went away. `truncated` is never true.
    - `info`: `session` (int, unique in the environment), `artist` (str: of the track just heard), `timestamp_ms` (int:
      event time at which it ended).

    Parameters
    ----------
    world : World | str | None
        A world, the name or directory of a stored one, or None for the default world.
    model : str
        Name of a listener model, or `module:Class`.
    render_mode : str | None
        `ansi`: `render` returns what was just heard, as text.

    Examples
    --------
    >>> import gymnasium, sim.envs
    >>> from sim.world.config import WorldConfig
    >>> from sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})
    >>> env = gymnasium.make("Botify-v0", world=world)
    >>> observation, info = env.reset(seed=7)
    >>> observation["fraction"].tolist(), observation["position"].tolist()
    ([1.0], [0])
    >>> observation, reward, terminated, truncated, info = env.step(observation["track"])
    >>> reward  # nobody wants to hear a track twice in a session
    0.0
    """

    # Gymnasium declares it as an instance's, and reads it from the class.
    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(self, world: World | str | None = None, model: str = "botify", render_mode: str | None = None) -> None:
        self._world = world_of(world)
        self._model = model
        self.render_mode = render_mode
        self.action_space = action_space(self._world)
        self.observation_space = observation_space(self._world)
        self._session: SessionSlots | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Let a listener sit down; without a seed, the next one of the same sequence."""
        super().reset(seed=seed)
        if seed is not None or self._session is None:
            self._session = SessionSlots(self._world, self._model, 1, int(self.np_random.integers(2**62)))
        else:
            self._session.change()
        return _only(self._session.observations()), _only(self._session.infos())

    def step(self, action: np.int64) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Play a track.

        Raises
        ------
        gymnasium.error.ResetNeeded
            The listener has gone away.
        """
        session = self._session
        if session is None or session.heard.ended[0]:
            raise gymnasium.error.ResetNeeded("no session is open; call reset() first")
        session.play(np.array([action], dtype=np.int64))
        ended = bool(session.heard.ended[0])
        return _only(session.observations()), float(session.rewards()[0]), ended, False, _only(session.infos())

    def render(self) -> str:
        """Return what was just heard, as text."""
        if self._session is None:
            return "no session is open"
        heard = _only(self._session.observations()) | _only(self._session.infos())
        title = self._world.catalogue.titles[heard["track"]]
        return f"listener {heard['user']} heard {heard['fraction'][0]:.0%} of {title} by {heard['artist']}"


def _only(columns: dict[str, Any]) -> dict[str, Any]:
    return {name: column[0] for name, column in columns.items()}
