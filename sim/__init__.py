"""Simulated listeners: worlds, listener models, the Kafka loop, Gymnasium environments and agents."""

from botify.core.errors import BotifyError


class SimulationError(BotifyError):
    """A simulation cannot start or continue with these options."""


class WorldError(SimulationError):
    """A file, a row or a setting of a world is invalid; the message names it and its value."""


class AgentError(SimulationError):
    """An agent lacks a method, or its answer is not a track."""
