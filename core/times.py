"""Times that people and logs write."""

from datetime import UTC, datetime, timedelta

_EPOCH, _MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


def iso_ms(text: str) -> int:
    """Return a time in ISO 8601, in UTC where it names no zone, as whole milliseconds since 1970.

    Raises `ValueError` if it is none.

    Examples
    --------
    >>> iso_ms("1970-01-02"), iso_ms("1970-01-01T02:00+01:00")
    (86400000, 3600000)
    """
    moment = datetime.fromisoformat(text)
    return ((moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH) // _MILLISECOND
