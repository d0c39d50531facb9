"""The events of a topic that entered: what its reader makes a dead letter of counts nowhere else either."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

from confluent_kafka import Message

from schemas.codec import Codec
from schemas.errors import DecodeError, ValidationError
from schemas.events import Listen, Recommendation, RecommendationRequest, Session
from schemas.validation import MAX_TIMESTAMP_MS, check

E = TypeVar("E", Listen, RecommendationRequest, Recommendation, Session)

_CHECKED = (Listen, RecommendationRequest)
"""Events that come from outside; the others are made by the worker and the recommender."""


def entered(messages: Sequence[Message], event: type[E], codec: Codec) -> Iterator[tuple[Message, E]]:
    """Yield the records with their events, in order, without those that cannot be read or cannot be true."""
    read = codec.decode_many([message.value() for message in messages], event)
    for message, one in zip(messages, read, strict=True):
        if isinstance(one, DecodeError):
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
