"""What can be wrong with a question put to the data."""

from core.errors import BotifyError


class AnalyticsError(BotifyError):
    """The data cannot answer the question as it was asked; the message says what would."""
