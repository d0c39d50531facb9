"""From where to where a topic is read, and whether it still can be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from analytics.export.errors import ExportError
from schemas import clients
from schemas.errors import TopicError
from schemas.position import Position, offsets_of
from schemas.settings import Settings
from schemas.topic_id import read_topic_id
from schemas.topic_reader import end_offsets, start_offsets


@dataclass(frozen=True, slots=True)
class TopicBounds:
    """A topic as it is now.

    Attributes
    ----------
    topic, topic_id : str
    start, end : mapping of partition to offset
        First offset still there, and the next to be written.
    """

    topic: str
    topic_id: str
    start: Mapping[int, int]
    end: Mapping[int, int]

    @classmethod
    def of(cls, settings: Settings, topic: str) -> Self:
        """Ask the brokers.

        Raises
        ------
        TopicError
            The topic does not exist, or no broker answers.
        """
        start, end = start_offsets(settings, topic), end_offsets(settings, topic)
        try:
            topic_id = read_topic_id(AdminClient(clients.common_config(settings)), topic)
        except KafkaException as error:
            raise TopicError(f"{topic}: the brokers do not describe it: {error.args[0].str()}") from error
        return cls(topic, topic_id, start, end)

    def offsets_of(self, position: Position, settings: Settings) -> Mapping[int, int]:
        """Return the offset of a place in each partition."""
        return offsets_of(position, settings, self.topic, self.start, self.end)

    def check_reachable(self, next_offsets: Mapping[int, int]) -> None:
        """Refuse to go on where records are gone: rows would be missing.

        Raises
        ------
        ExportError
            Of a partition, records that were not exported are gone, or fewer are there than were exported.

        Examples
        --------
        >>> TopicBounds("botify.listens", "an-id", start={0: 20}, end={0: 50}).check_reachable({0: 10})
        Traceback (most recent call last):
        analytics.export.errors.ExportError: botify.listens[0]: the export goes on at offset 10, but the topic has 20 \
to 49 only; keep this folder as it is and export the rest into another one
        """
        for partition, offset in next_offsets.items():
            start, end = self.start[partition], self.end[partition]
            if not start <= offset <= end:
                raise ExportError(
                    f"{self.topic}[{partition}]: the export goes on at offset {offset}, but the topic has {start} to "
                    f"{end - 1} only; keep this folder as it is and export the rest into another one"
                )
