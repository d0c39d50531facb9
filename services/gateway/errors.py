"""Errors of the gateway, each with the status that a client sees."""

from schemas.errors import BotifyError

NO_CATALOGUE = "the catalogue is empty; `botify world publish` or a simulation fills it"
"""What `/readyz` says of a gateway that waits for nothing else."""


class UnavailableError(BotifyError):
    """Kafka or Redis cannot be used at the moment; the client may come again (503)."""


class UnknownTrackError(BotifyError):
    """The catalogue has no such track (404 where it was asked for, 422 where it was said to be heard)."""
