"""Listener models: how listeners open sessions and react to tracks. One protocol, and its implementations by name."""

from collections.abc import Callable

from botify.core.loading import load_object
from botify.sim import SimulationError
from botify.sim.listeners.botify import BotifyListeners, ProbitListeners, StreamingListeners, ThresholdListeners
from botify.sim.listeners.changing import (
    DriftingListeners,
    FatiguedListeners,
    RecoveringListeners,
    ShiftingListeners,
    TrendingListeners,
)
from botify.sim.listeners.model import ListenerModel
from botify.sim.world.model import World

MODELS: dict[str, Callable[[World, int], ListenerModel]] = {
    "botify": BotifyListeners,
    "drifting": DriftingListeners,
    "trending": TrendingListeners,
    "shifting": ShiftingListeners,
    "fatigue": FatiguedListeners,
    "streaming": StreamingListeners,
    "probit": ProbitListeners,
    "threshold": ThresholdListeners,
    "recovering": RecoveringListeners,
}


def load_model(name: str, world: World, seed: int) -> ListenerModel:
    """Make the listener model: one of `MODELS`, or `module:Class` of a class that takes a world and a seed.

    Raises `LoadError` if there is no model of that name, it cannot be imported, or it takes other arguments, and
    `SimulationError` if it lacks the methods of a listener model.
    """
    if name in MODELS:
        return MODELS[name](world, seed)
    model: ListenerModel = load_object(name, f"a listener model; there are {', '.join(MODELS)}", world=world, seed=seed)
    if not (callable(getattr(model, "open", None)) and callable(getattr(model, "fractions", None))):
        raise SimulationError(f"{name} is not a listener model: it needs the methods open and fractions")
    return model
