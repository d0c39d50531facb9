"""What can go wrong in a replay."""

from schemas.errors import BotifyError


class ReplayError(BotifyError):
    """A replay cannot do what was asked; the message says what would help."""
