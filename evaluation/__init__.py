"""Recommenders judged on real logs: each event is predicted, then learned, once, in order."""

from botify.core.errors import BotifyError


class EvaluationError(BotifyError):
    """The evaluation cannot be run as it was asked for; the message says what would work."""


class MissingPeerError(EvaluationError):
    """The package of a peer is not installed."""
