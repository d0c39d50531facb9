"""Find a listener model by its name, or one of the user's own by `module:Class`."""

from __future__ import annotations

from collections.abc import Callable

from core.loading import load_object
from sim.errors import SimulationError
from sim.listeners.botify import BotifyListeners
from sim.listeners.changing import DriftingListeners, ShiftingListeners
from sim.listeners.model import ListenerModel
from sim.listeners.moods import FatiguedListeners, TrendingListeners
from sim.world.model import World

MODELS: dict[str, Callable[[World, int], ListenerModel]] = {
    "botify": BotifyListeners,
    "drifting": DriftingListeners,
    "trending": TrendingListeners,
    "shifting": ShiftingListeners,
    "fatigue": FatiguedListeners,
}


def load_model(name: str, world: World, seed: int) -> ListenerModel:
    """Make the listener model.

    Parameters
    ----------
    name : str
        One of `MODELS`, or `module:Class` of a class that takes a world and a seed.
    world : World
    seed : int

    Raises
    ------
    LoadError
        There is no model of that name, it cannot be imported, or it takes other arguments.
    SimulationError
        It lacks the methods of a listener model.
    """
    if name in MODELS:
        return MODELS[name](world, seed)
    wanted = f"a listener model; there are {', '.join(MODELS)}"
    model: ListenerModel = load_object(name, wanted, world=world, seed=seed)
    if not (callable(getattr(model, "open", None)) and callable(getattr(model, "fractions", None))):
        raise SimulationError(f"{name} is not a listener model: it needs the methods open and fractions")
    return model
