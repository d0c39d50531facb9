"""Event time: its bound, the "now" of a service, its speed, and how it is printed.

A listen's time comes from its producer. Popularity decays by it and sessions close by it, so one wrong clock could ruin
both. `EventTime` bounds how far a listen may lead; docs/adr/0013 gives the reasons.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Self

from confluent_kafka.admin import AdminClient

from botify.core.errors import IgnoredHeaderError, SpeedError, ValidationError
from botify.core.kafka.admin import retry_brokers
from botify.core.kafka.config import common_config
from botify.core.kafka.layout import COPIED, declared_lead_ms
from botify.core.settings import Settings
from botify.core.times import utc

LEAD_MS = 10 * 60 * 1000
"""How far a listen may lead the time at which the broker took it.

Less than the gap that closes sessions, so a wrong clock within the bound closes no active session.
"""
SIMULATED_TIME = ("botify.event-time", b"simulated")  # header of earlier versions

SPREAD_MS = 24 * 60 * 60 * 1000  # how far a partition's event time may lead the others' and still count for a service


class Lead:
    """How far the listens of a topic may lead the broker's clock, as the topic declares it (`MAX_LEAD`): `ms`.

    It is None if the topic was made by a version that did not declare. Then the bound is `LEAD_MS`, but headers and the
    newest listen of the partition count, as in that version.
    """

    def __init__(self, read: Callable[[], int | None] = lambda: LEAD_MS) -> None:
        self._read, self.ms, self._fresh = read, read(), True

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return that of the listens; raises as `declared_lead_ms`, after patience with brokers that restart."""
        admin = AdminClient(common_config(settings))
        return cls(lambda: retry_brokers(partial(declared_lead_ms, settings, admin)))

    def begin_run(self) -> None:
        """Let `changed` read once more: before a listen is refused, but not before each."""
        self._fresh = False

    def changed(self) -> bool:
        """Say whether the topic declares another bound than `ms` was."""
        before = self.ms
        if not self._fresh:
            self.ms, self._fresh = self._read(), True
        return self.ms != before


class EventTime:
    """The event time of one partition: the newest of all accepted listens and duplicates; 0 before the first.

    Which listens are accepted is a function of the topic: of its declared lead, and of the records' bytes and Kafka
    timestamps. So every replay decides alike. A topic declares once, and what was refused before stays a dead letter.
    """

    __slots__ = ("newest_ms",)

    def __init__(self, newest_ms: int = 0) -> None:
        self.newest_ms = newest_ms

    def advance(
        self,
        timestamp_ms: int,
        taken_ms: int,
        headers: Iterable[tuple[str, bytes]] | None,
        lead: Lead,
        raw: bytes = b"",
    ) -> None:
        """Accept a listen, or raise `ValidationError` if its time leads too far.

        It is an `IgnoredHeaderError` if a header says that it may. `taken_ms` is the record's Kafka timestamp, `raw`
        its value, which travels with the error.
        """
        bound_ms = LEAD_MS if lead.ms is None else lead.ms
        if timestamp_ms > self.newest_ms and timestamp_ms - taken_ms > bound_ms:
            claims = any(header == SIMULATED_TIME or header[0] == COPIED for header in headers or ())
            if lead.ms is not None or not (claims or timestamp_ms - self.newest_ms <= bound_ms):
                if lead.changed():
                    return self.advance(timestamp_ms, taken_ms, headers, lead, raw)
                why = (
                    f"timestamp_ms {timestamp_ms} ({utc(timestamp_ms)} UTC) leads by more than "
                    f"{bound_ms // 60_000} minutes: the broker took the record at {utc(taken_ms)}; "
                    "look at the producer's clock and unit"
                )
                if claims:
                    raise IgnoredHeaderError(f"{why}; its headers do not count, as the topic declares the bound", raw)
                raise ValidationError(why, raw)
        self.newest_ms = max(self.newest_ms, timestamp_ms)
        return None


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


def parse_speed(text: str) -> float | None:
    """Return event time per wall time from `60x` or `60`, None for `max`; raises `SpeedError` for others."""
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not 0 < speed < float("inf"):
        raise SpeedError(f"speed {text!r} is neither max nor a number such as 1x or 60x")
    return speed
