"""How listeners choose: one protocol, one file for each model."""

from sim.listeners.model import Hearing, ListenerModel, Opening

__all__ = ["Hearing", "ListenerModel", "Opening"]
