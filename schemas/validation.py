"""Can this event be true? Checked where it enters; inside, events are trusted."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from confluent_kafka import Message

from core.errors import DecodeError, ValidationError
from core.kafka.config import key_of
from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest, Session

MAX_ID_BYTES = 255
MAX_USER = 2**53
MAX_TRACK = 2**31 - 1
"""What a listener's history has room for; a bigger id in the catalogue must not stop the worker."""
MAX_TIMESTAMP_MS = 7_258_118_400_000
"""The year 2200. How far a listen may lead before that, its partition decides (`event_time.py`)."""


def check(event: Listen | RecommendationRequest, key: bytes | None, raw: bytes) -> None:
    """Refuse an event that cannot be true, whatever the catalogue.

    Raises
    ------
    ValidationError
        With the field and its value. `raw` travels with it to the dead-letter topic.
    """
    # One expression for the good ones: this runs for every event.
    if (
        0.0 <= event.fraction <= 1.0
        and 0 <= event.user <= MAX_USER
        and 0 <= event.track <= MAX_TRACK
        and 0 <= event.timestamp_ms <= MAX_TIMESTAMP_MS
        and event.position >= 0
        and 0 < len(event.session_id.encode()) <= MAX_ID_BYTES
        and 0 < len(event[0].encode()) <= MAX_ID_BYTES
        and key == b"%d" % event.user  # `key_of`, without the call
    ):
        return
    raise ValidationError(_why(event, key), raw)


def _why(event: Listen | RecommendationRequest, key: bytes | None) -> str:
    if not 0.0 <= event.fraction <= 1.0:
        return f"fraction {event.fraction} is not between 0 and 1"
    for name, highest in (("user", MAX_USER), ("track", MAX_TRACK), ("timestamp_ms", MAX_TIMESTAMP_MS)):
        if not 0 <= getattr(event, name) <= highest:
            return f"{name} {getattr(event, name)} is not between 0 and {highest}"
    if event.position < 0:
        return f"position {event.position} is negative"
    if key != key_of(event.user):
        return f"the key {key!r} is not the user's id {event.user}, so the record may be in another user's partition"
    return f"{event._fields[0]} and session_id must have 1 to {MAX_ID_BYTES} bytes"


E = TypeVar("E", Listen, RecommendationRequest, Recommendation, Session)

_CHECKED = (Listen, RecommendationRequest)
"""Events that come from outside; the others are made by the worker and the recommender."""


def iter_valid(
    messages: Sequence[Message],
    event: type[E],
    codec: Codec,
    rejected_before: Mapping[int, Container[int]] = MappingProxyType({}),
) -> Iterator[tuple[Message, E]]:
    """Yield the records with their events, in order, without those that cannot be read or cannot be true.

    Parameters
    ----------
    messages : sequence of Message
        Of one topic.
    event : type
    codec : Codec
    rejected_before : mapping of partition to container of offset
        Records that are dead letters (`RejectedBefore.offsets`); they are left out too.
    """
    read = codec.decode_many([message.value() for message in messages], event)
    for message, one in zip(messages, read, strict=True):
        if isinstance(one, DecodeError) or message.offset() in rejected_before.get(message.partition(), ()):
            continue
        if isinstance(one, _CHECKED):
            try:
                check(one, message.key(), message.value())
            except ValidationError:
                continue
        # made of listens that an earlier version let pass
        elif (one.ended_ms if isinstance(one, Session) else one.timestamp_ms) > MAX_TIMESTAMP_MS:
            continue
        yield message, one
