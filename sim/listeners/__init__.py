"""How listeners choose: one protocol, one file for each model."""

from sim.listeners.model import Exposure, ListenerModel, SessionStart

__all__ = ["Exposure", "ListenerModel", "SessionStart"]
