"""What can be wrong with an evaluation."""

from core.errors import BotifyError


class EvaluationError(BotifyError):
    """The evaluation cannot be run as it was asked for; the message says what would work."""


class MissingPeerError(EvaluationError):
    """The package of a peer is not installed."""
