"""What can go wrong with an export."""

from analytics.errors import AnalyticsError


class ExportError(AnalyticsError):
    """Topic and folder do not fit together, or the folder is another's; the message says what would help."""
