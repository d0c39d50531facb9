"""Events of a topic with the times at which Kafka took them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from schemas.errors import RejectedMessageError
from schemas.events import Recommendation, RecommendationRequest, Session
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topic_reader import TopicReader

E = TypeVar("E", RecommendationRequest, Recommendation, Session)


def read_events(settings: Settings, topic: str, event: type[E]) -> Iterator[tuple[int, E]]:
    """Yield the events that a topic holds now, each with its record's timestamp in ms; each partition in its order.

    Nothing is committed, and a copy is yielded again. What cannot be decoded is left out, as its readers leave it out.

    Raises
    ------
    TopicError
        The topic does not exist or the broker stops answering.
    """
    codec, reader = codec_of(settings), TopicReader(settings, topic)
    try:
        for messages in reader.read_to_end():
            for message in messages:
                try:
                    yield message.timestamp()[1], codec.decode(message.value(), event)
                except RejectedMessageError:
                    continue
    finally:
        reader.close()
