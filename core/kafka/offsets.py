"""Offsets: where reading begins and ends, in words, and what a group has committed.

What a consumer group has committed, asked without joining it.

`AdminClient.list_consumer_group_offsets` asks the same, and ends the process with a segmentation fault where the
group's coordinator is not ready (librdkafka 2.16: `rd_kafka_handle_OffsetFetch` hands the error to a group that an
admin client does not have). A consumer that never subscribes has one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from core.errors import PositionError
from core.kafka.admin import offsets_at
from core.settings import Settings

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_FORMS = "earliest, latest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H"


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A place in every partition.

    Attributes
    ----------
    kind : str
        `earliest`, `latest`, `offset` or `timestamp`.
    value : int
        The offset, or milliseconds since the epoch.
    """

    kind: str
    value: int = 0


EARLIEST, LATEST = TopicPosition("earliest"), TopicPosition("latest")


def parse_position(text: str, now_ms: int) -> TopicPosition:
    """Read what an operator wrote.

    Parameters
    ----------
    now_ms : int
        What a duration is counted back from.

    Raises
    ------
    PositionError
        It is none of the forms.

    Examples
    --------
    >>> parse_position("duration:PT1H", now_ms=5_000_000)
    TopicPosition(kind='timestamp', value=1400000)
    >>> parse_position("ts:1970-01-01T00:00:01Z", now_ms=0)
    TopicPosition(kind='timestamp', value=1000)
    """
    kind, _, value = text.partition(":")
    try:
        if kind in ("earliest", "latest") and not value:
            return TopicPosition(kind)
        if kind == "offset" and (offset := int(value)) >= 0:
            return TopicPosition("offset", offset)
        if kind == "ts":
            moment = datetime.fromisoformat(value)
            return TopicPosition(
                "timestamp", round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1e3)
            )
        if kind == "duration":
            return TopicPosition("timestamp", now_ms - _duration_ms(value))
    except ValueError as error:
        raise PositionError(f"{text!r} is not a position in a topic ({error}); say {_FORMS}") from error
    raise PositionError(f"{text!r} is not a position in a topic; say {_FORMS}")


def offsets_of(
    position: TopicPosition, settings: Settings, topic: str, start: Mapping[int, int], end: Mapping[int, int]
) -> Mapping[int, int]:
    """Return the offset of the place in each partition; an offset outside a partition becomes its nearest end.

    Parameters
    ----------
    start, end : mapping of partition to offset
        First offset still there, and the next to be written.
    """
    if position.kind == "earliest":
        return start
    if position.kind == "latest":
        return end
    if position.kind == "timestamp":
        return offsets_at(settings, topic, position.value)
    return {p: min(max(position.value, start[p]), end[p]) for p in end}


def _duration_ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration of days, hours, minutes and seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
