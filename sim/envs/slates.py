"""Gymnasium environments of slates: a listener chooses one of several tracks, or leaves."""

from dataclasses import replace
from functools import partial
from typing import Any, cast

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from botify.core.keyed_random import mix
from botify.sim import SimulationError
from botify.sim.envs.environments import BotifyEnv, BotifyVectorEnv, SessionSlots, observation_space
from botify.sim.listeners.choice import ChoiceModel, choice_model, chosen
from botify.sim.listeners.model import ComparingListenerModel, Floats, Ints
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World


class BotifySlateEnv(BotifyEnv):
    """A session of one listener, who is shown slates, is an episode.

    Interest evolution in the words of RecSim (Ie et al., arXiv:1909.04847, 2019): the listener chooses a track by a
    choice model, and hears it as in `Botify-v0`, or chooses none and leaves.

    - Action: the tracks of the slate, the first place first. A track that comes twice is at its first place only.
    - Reward: the fraction that the listener hears of the chosen track, 0 to 1; 0 if none is chosen.
    - Observation: as in `Botify-v0`, with `place`: the place of the track in the slate, from 0. It is `size` if none
      was chosen, and the rest is then as before; and after `reset`, as the listener's own track is of no slate.
    - `terminated`: the listener left, because none was chosen or as in `Botify-v0`. `truncated` is never true.
    - `info`: as in `Botify-v0`.

    `world`, `model`, `render_mode`: as of `BotifyEnv`; the model must be a `ComparingListenerModel`, as all of ours
    are.
    `size`: tracks of a slate.
    `choice`: `logit`, `cascade`, or a function of one's own (`botify.sim.listeners.choice`).
    Raises `SimulationError` if the slate has no place or more than there are tracks, or there is no such choice model.

    Examples
    --------
    >>> import gymnasium, botify.sim.envs
    >>> from botify.sim.world.config import WorldConfig
    >>> from botify.sim.world.generate import generate
    >>> world = World("small", *generate(WorldConfig(tracks=100, artists=20, genres=5, users=9, dimensions=8)), {})
    >>> env = gymnasium.make("BotifySlate-v0", world=world, size=3)
    >>> observation, info = env.reset(seed=7)
    >>> observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
    >>> bool(observation["place"] == 3) == (reward == 0.0 and terminated)
    True
    """

    def __init__(
        self,
        world: World | str | None = None,
        model: str = "botify",
        render_mode: str | None = None,
        size: int = 5,
        choice: str | ChoiceModel = "logit",
    ) -> None:
        super().__init__(world, model, render_mode)
        self.action_space, self.observation_space = _spaces(self._world, size)
        self._size = size
        self._open = partial(SlateSlots, self._world, model, size=size, probabilities=choice_model(choice))

    def render(self) -> str:
        """Return the last choice as text."""
        if self._session is None or self._session.observations()["place"][0] == self._size:
            left = self._session is not None and self._session.heard.ended[0]
            return "the listener chose none of them and left" if left else super().render()
        return f"place {self._session.observations()['place'][0]}: {super().render()}"


class BotifySlateVectorEnv(BotifyVectorEnv):
    """`BotifySlateEnv` as `BotifyVectorEnv` is `BotifyEnv`, for many listeners; actions are (num_envs, size)."""

    def __init__(
        self,
        num_envs: int = 1,
        world: World | str | None = None,
        model: str = "botify",
        size: int = 5,
        choice: str | ChoiceModel = "logit",
    ) -> None:
        super().__init__(num_envs, world, model)
        self._use(*_spaces(self._world, size))
        self._open = partial(SlateSlots, self._world, model, size=size, probabilities=choice_model(choice))


def _spaces(world: World, size: int) -> tuple[spaces.MultiDiscrete, spaces.Dict]:
    if not 1 <= size <= len(world.catalogue):
        raise SimulationError(
            f"size={size} is no size of a slate; give 1 to {len(world.catalogue)}, the tracks there are"
        )
    observed = observation_space(world)
    observed["place"] = spaces.Discrete(size + 1)
    return spaces.MultiDiscrete([len(world.catalogue)] * size), observed


class SlateSlots(SessionSlots):
    """Sessions side by side whose listeners are shown slates.

    `heard` is the last listen of each slot; a listener who chose none has ended with it. `places`, shape (slots,), is
    each listener's choice; `size` for none, and for the listener's own first track.
    """

    def __init__(self, world: World, name: str, slots: int, seed: int, size: int, probabilities: ChoiceModel) -> None:
        self._size = size
        self._probabilities = probabilities
        self.places: Ints = np.full(slots, size, dtype=np.int64)
        super().__init__(world, name, slots, seed)
        if not callable(getattr(self._model, "appeal", None)):
            raise SimulationError(f"{name} cannot compare the tracks of a slate: it needs the method appeal")

    def play(self, tracks: NDArray[np.int64]) -> None:
        """Show a slate to each listener, shape (slots, size); a slot whose session ended starts the next one.

        Raises `gymnasium.error.InvalidAction` if a track does not exist, or there is not one slate of the right size
        for each listener.
        """
        heard = self.heard
        if tracks.shape != (len(heard), self._size):
            raise gymnasium.error.InvalidAction(
                f"slates of shape {tracks.shape} for {len(heard)} listeners and {self._size} places"
            )
        asking = np.flatnonzero(~heard.ended)
        self._require_known(tracks[asking])
        self._simulation.abandon(np.intersect1d(self._simulation.asking, heard.slots[heard.ended]))
        self.places = np.full(len(heard), self._size, dtype=np.int64)
        self.places[asking] = self._choices(heard.slots[asking], tracks[asking])
        playing = np.flatnonzero(self.places < self._size)
        self._simulation.answer(heard.slots[playing], tracks[playing, self.places[playing]])
        self._listen()

    def change(self) -> None:
        self.places = np.full(len(self.places), self._size, dtype=np.int64)
        super().change()

    def observations(self) -> dict[str, Any]:
        return super().observations() | {"place": self.places}

    def rewards(self) -> Floats:
        """Return the fraction heard of each chosen track, 0 where none was chosen."""
        return np.where(self.places < self._size, self.heard.fractions, 0.0)

    def _choices(self, slots: Ints, slates: NDArray[np.int64]) -> Ints:
        model, appeals = cast("ComparingListenerModel", self._model), np.empty(slates.shape)
        for place in range(self._size):
            exposure = self._simulation.exposure(slots, slates[:, place])
            again = (slates[:, :place] == slates[:, place, None]).any(axis=1)
            appeals[:, place] = np.where(again, 0.0, model.appeal(exposure))
        return chosen(self._probabilities(appeals), mix(exposure.keys, exposure.positions))

    def _listen(self) -> None:
        """Finish the listens of those who play a track; who chose none keeps the last listen, and has ended with it."""
        before = getattr(self, "heard", None)
        super()._listen()
        left = np.setdiff1d(np.arange(self._simulation.slots), self.heard.slots)
        if before is not None and len(left):
            ended = replace(before.where(left), ended=np.ones(len(left), dtype=np.bool_))
            heard = FinishedListens.joined((self.heard, ended))
            self.heard = heard.where(np.argsort(heard.slots))
