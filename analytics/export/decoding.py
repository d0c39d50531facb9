"""Kafka's records to columns; what belongs in the dead-letter topic is left out, as the worker leaves it out."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar

import pyarrow as pa
from confluent_kafka import Message

from analytics.export.columns import arrow_schema, record_batch
from schemas.codec import Codec
from schemas.entered import entered
from schemas.events import Listen, Recommendation, RecommendationRequest, Session

E = TypeVar("E", Listen, RecommendationRequest, Recommendation, Session)


class BatchDecoder(Generic[E]):
    """Decodes the records of one topic, about 10 µs each with all that belongs to it.

    Parameters
    ----------
    event : type
    codec : Codec
    rejected_before : mapping of partition to container of offset
        Of the topic's dead letters; see `entered`.

    Attributes
    ----------
    schema : Schema
        Of every batch.
    rejected : int
        How many records were left out so far.
    """

    def __init__(
        self,
        event: type[E],
        codec: Codec,
        rejected_before: Mapping[int, Container[int]] = MappingProxyType({}),
    ) -> None:
        self.schema = arrow_schema(event)
        self.rejected = 0
        self._event: type[E] = event
        self._codec = codec
        self._rejected_before = rejected_before

    def decode(self, messages: Sequence[Message]) -> pa.RecordBatch:
        """Return the good ones among the records, in their order."""
        events: list[E] = []
        partitions: list[int] = []
        offsets: list[int] = []
        for message, event in entered(messages, self._event, self._codec, self._rejected_before):
            events.append(event)
            partitions.append(message.partition())
            offsets.append(message.offset())
        self.rejected += len(messages) - len(events)
        return record_batch(self.schema, events, partitions, offsets)
