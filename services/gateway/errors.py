"""Errors of the gateway, each with the status that a client sees."""

from schemas.errors import BotifyError


class UnavailableError(BotifyError):
    """Kafka or Redis cannot be used at the moment; the client may come again (503)."""


class UnknownTrackError(BotifyError):
    """The catalogue has no such track (404 where it was asked for, 422 where it was said to be heard)."""
