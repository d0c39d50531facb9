"""Times as people and logs write them."""

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


def utc(timestamp_ms: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    """Format a time in UTC; any number is accepted.

    Examples
    --------
    >>> utc(1_700_000_000_000), utc(1_700_000_000_000, "%b %d, %H:%M")
    ('2023-11-14 22:13:20', 'Nov 14, 22:13')
    >>> utc(3_093_527_980_800_000)  # beyond the calendar
    '3,093,527,980,800,000 ms after 1970'
    """
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).strftime(pattern)
    except (ValueError, OverflowError, OSError):
        return f"{timestamp_ms:,} ms after 1970"
