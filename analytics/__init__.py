"""From topics to a decision: frames, experiment statistics and offline evaluation."""

from botify.core.errors import BotifyError


class AnalyticsError(BotifyError):
    """The data does not allow the analysis; the message says what would."""
