"""Events of a topic with the times at which Kafka took them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from schemas.entered import entered
from schemas.events import Recommendation, RecommendationRequest, Session
from schemas.registry import codec_of
from schemas.settings import Settings
from schemas.topic_reader import TopicReader

E = TypeVar("E", RecommendationRequest, Recommendation, Session)


def read_events(settings: Settings, topic: str, event: type[E]) -> Iterator[tuple[int, E]]:
    """Yield the events that a topic holds now, each with its record's timestamp in ms; each partition in its order.

    Nothing is committed, and a copy is yielded again. What cannot enter is left out, as its readers leave it out.

    Raises
    ------
    TopicError
        The topic does not exist or the broker stops answering.
    """
    codec, reader = codec_of(settings), TopicReader(settings, topic)
    try:
        for messages in reader.read_to_end():
            for message, one in entered(messages, event, codec):
                yield message.timestamp()[1], one
    finally:
        reader.close()
