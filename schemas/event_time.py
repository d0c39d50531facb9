"""Event time: its bound, the "now" of a service, its speed, and how it is printed.

A listen's time comes from its producer. Popularity decays by it and sessions close by it, so one wrong clock could ruin
both. `EventTime` bounds how far a listen may lead; docs/adr/0007-event-time-is-bounded.md gives the reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from core.errors import SpeedError, ValidationError
from core.kafka.layout import COPIED

LEAD_MS = 10 * 60 * 1000
"""How far a listen may lead the time at which the broker took it, or the newest listen of its partition.

Less than the gap that closes sessions, so a wrong clock within the bound closes no active session.
"""
SIMULATED_LEAD_MS = 366 * 24 * 60 * 60 * 1000
"""How far a listen may lead if it declares its time to be simulated."""

SIMULATED_TIME = ("botify.event-time", b"simulated")
"""Header of a listen whose producer's clock is not the wall clock."""

SPREAD_MS = 24 * 60 * 60 * 1000
"""How far a partition's event time may lead the others' and still count for a service."""


class EventTime:
    """The event time of one partition: the newest time of all accepted listens, duplicates included.

    Which listens are accepted is a function of the topic: of the records' bytes, headers and Kafka timestamps, in
    order. So every replay decides alike.

    Attributes
    ----------
    newest_ms : int
        0 before the first listen.

    Examples
    --------
    >>> time = EventTime()
    >>> time.advance(1_000_000, taken_ms=900_000, headers=())
    >>> time.advance(1_500_000, taken_ms=900_000, headers=())  # leads the newest listen by less than the bound
    >>> time.advance(9_000_000, taken_ms=900_000, headers=())
    Traceback (most recent call last):
    core.errors.ValidationError: timestamp_ms 9000000 (1970-01-01 02:30:00 UTC) leads by more than 10 minutes: \
the broker took the record at 1970-01-01 00:15:00, the newest listen of its partition is of 1970-01-01 00:25:00; \
look at the producer's clock and unit
    >>> time.advance(9_000_000, taken_ms=900_000, headers=[SIMULATED_TIME])
    >>> time.newest_ms
    9000000
    """

    __slots__ = ("newest_ms",)

    def __init__(self, newest_ms: int = 0) -> None:
        self.newest_ms = newest_ms

    def advance(
        self, timestamp_ms: int, taken_ms: int, headers: Iterable[tuple[str, bytes]] | None, raw: bytes = b""
    ) -> None:
        """Accept a listen, or reject it if its time leads too far.

        Parameters
        ----------
        timestamp_ms : int
            Of the listen.
        taken_ms : int
            The record's Kafka timestamp.
        headers : iterable of (str, bytes), optional
            Of the record.
        raw : bytes
            The record's value; it travels with the error.

        Raises
        ------
        ValidationError
            The time leads by more than `LEAD_MS`, or `SIMULATED_LEAD_MS` where the header `SIMULATED_TIME` is set.
        """
        if timestamp_ms <= self.newest_ms:
            return
        lead_ms = timestamp_ms - max(taken_ms, self.newest_ms)
        judged = lead_ms > LEAD_MS and any(name == COPIED for name, _ in headers or ())  # in the topic it comes from
        if lead_ms > LEAD_MS and not judged:
            bound_ms, bound = LEAD_MS, "10 minutes"
            if SIMULATED_TIME in (headers or ()):
                bound_ms, bound = SIMULATED_LEAD_MS, "366 days, though its time is declared to be simulated"
            if lead_ms > bound_ms:
                raise ValidationError(
                    f"timestamp_ms {timestamp_ms} ({utc(timestamp_ms)} UTC) leads by more than {bound}: the broker "
                    f"took the record at {utc(taken_ms)}, the newest listen of its partition is of "
                    f"{utc(self.newest_ms)}; look at the producer's clock and unit",
                    raw,
                )
        self.newest_ms = timestamp_ms


def event_time_of(partitions: Sequence[int]) -> int:
    """Return the event time of a service from that of its partitions, in ms; 0 without any.

    It is the newest that leads the median by at most `SPREAD_MS`, so a minority of partitions with a wrong time does
    not move it.

    Examples
    --------
    >>> event_time_of([1_000, 2_000, 3_000]), event_time_of([1_000, 2_000, 3_093_527_980_800_000])
    (3000, 2000)
    """
    if not partitions:
        return 0
    median_ms = sorted(partitions)[(len(partitions) - 1) // 2]
    return max(newest_ms for newest_ms in partitions if newest_ms <= median_ms + SPREAD_MS)


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


def parse_speed(text: str) -> float | None:
    """Return event time per wall time from a text such as `60x` or `60`, or None for `max`.

    Raises
    ------
    SpeedError
        The text has another form.

    Examples
    --------
    >>> parse_speed("60x"), parse_speed("2.5"), parse_speed("max")
    (60.0, 2.5, None)
    """
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise SpeedError(f"speed {text!r} is neither max nor a number such as 1x or 60x")
    return speed
