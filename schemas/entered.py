"""The events of a topic that entered: what its reader makes a dead letter of counts nowhere else either."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from confluent_kafka import Message

from schemas.codec import Codec
from schemas.errors import DecodeError, ValidationError
from schemas.events import Listen, Recommendation, RecommendationRequest, Session
from schemas.validation import MAX_TIMESTAMP_MS, check

E = TypeVar("E", Listen, RecommendationRequest, Recommendation, Session)

_CHECKED = (Listen, RecommendationRequest)
"""Events that come from outside; the others are made by the worker and the recommender."""


def entered(
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
