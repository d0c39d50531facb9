"""Botify: a streaming recommender on Apache Kafka, and the listeners who judge it.

This is the public API; it needs no server but for `connect`, and all its answers are pandas frames:

- `load` reads a log, and `Log.evaluate` judges recommenders on it, also a `Ranker` of your own;
- `simulate` plays recommenders to simulated listeners;
- `connect` asks a service that runs.

>>> import botify
>>> log = botify.load("plays.csv")  # doctest: +SKIP
>>> log.evaluate(["botify", "toppop"])  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from botify.core.errors import BotifyError
    from botify.logs import Log, Ranker, load
    from botify.playing import Service, connect, simulate

__all__ = ["BotifyError", "Log", "Ranker", "Service", "connect", "load", "simulate"]

_MODULES = {
    "botify.core.errors": ("BotifyError",),
    "botify.logs": ("Log", "Ranker", "load"),
    "botify.playing": ("Service", "connect", "simulate"),
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: numpy and pandas take most of a second, and commands do not need all of them."""
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
