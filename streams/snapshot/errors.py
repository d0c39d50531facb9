"""What can go wrong with a snapshot."""

from schemas.errors import BotifyError


class SnapshotError(BotifyError):
    """A snapshot cannot be written, or cannot be loaded here."""
