"""What can be wrong with a world, an agent or a run."""

from core.errors import BotifyError


class SimulationError(BotifyError):
    """A simulation cannot start or go on as asked."""


class WorldError(SimulationError):
    """A world's file, row or setting cannot be used; the message names all three."""


class AgentError(SimulationError):
    """An agent lacks its methods, or answered with something that is not a track."""
