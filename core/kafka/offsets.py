"""Offsets of a topic: what the brokers say of it now, and where reading begins and ends, in words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from botify.core.errors import PositionError, TopicError
from botify.core.kafka.admin import (
    TIMEOUT_S,
    committed_offsets,
    end_offsets,
    offsets_at,
    read_topic_id,
    retry_brokers,
    start_offsets,
)
from botify.core.kafka.config import common_config
from botify.core.settings import Settings

_DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")
_FORMS = "earliest, latest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H"


@dataclass(frozen=True, slots=True)
class TopicPosition:
    """A position in every partition.

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
    """Parse a position.

    Parameters
    ----------
    now_ms : int
        Time from which a duration counts back.

    Raises
    ------
    PositionError
        The text has none of the forms.

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


@dataclass(frozen=True, slots=True)
class TopicState:
    """What the brokers say about a topic.

    Attributes
    ----------
    start, end : mapping of partition to offset
        The first offset that is still there, and the next to be written.
    committed : mapping of partition to offset
        What the consumer group has committed; empty if no group was asked for.
    """

    topic: str
    topic_id: str
    start: Mapping[int, int]
    end: Mapping[int, int]
    committed: Mapping[int, int] = field(default_factory=dict)

    def offsets_of(self, position: TopicPosition, settings: Settings) -> Mapping[int, int]:
        """Return the offset of a position in each partition; outside of a partition, that is its nearest end."""
        if position.kind == "earliest":
            return self.start
        if position.kind == "latest":
            return self.end
        if position.kind == "timestamp":
            return offsets_at(settings, self.topic, position.value)
        return {p: min(max(position.value, self.start[p]), self.end[p]) for p in self.end}


def describe_topic(settings: Settings, topic: str, group: str | None = None) -> TopicState:
    """Ask the brokers about a topic, and what the group has committed.

    Raises
    ------
    TopicError
        The topic does not exist, or no broker answers for `TIMEOUT_S`.
    """
    admin = AdminClient(common_config(settings))

    def ask() -> TopicState:
        topic_id = read_topic_id(admin, topic)
        start, end = start_offsets(settings, topic), end_offsets(settings, topic)
        asked = [] if group is None else [(topic, partition) for partition in sorted(start)]
        committed = committed_offsets(settings, group or "", asked, TIMEOUT_S) if asked else {}
        return TopicState(topic, topic_id, start, end, {partition: at for (_, partition), at in committed.items()})

    try:
        return retry_brokers(ask)
    except KafkaException as error:
        raise TopicError(f"{topic}: the brokers do not describe it: {error.args[0].str()}") from error


def _duration_ms(text: str) -> int:
    found = _DURATION.fullmatch(text)
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is not an ISO 8601 duration of days, hours, minutes and seconds")
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return (((days * 24 + hours) * 60 + minutes) * 60 + seconds) * 1000
