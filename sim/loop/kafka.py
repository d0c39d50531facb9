"""A producer that tells when the broker did not take something."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from core.errors import DecodeError
from core.kafka.admin import end_offsets
from core.kafka.config import key_of, producer_config
from core.kafka.reader import AssignedConsumer
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.codec import Codec
from schemas.events import Recommendation, Track
from schemas.registry import codec_of
from schemas.topics import Topics
from sim.errors import SimulationError
from sim.world.model import WorldCatalogue

QUEUE_RECORDS = 100_000
FULL_QUEUE_S = 30.0
FLUSH_S = 60.0

Record = dict[str, Any]
"""A record to be sent: `key` and `value`, bytes."""


class Sender:
    """Sends records in batches.

    At-least-once up to the broker's acknowledgement by all replicas; the producer is idempotent, so a retry of its own
    makes no copy. A record that was not delivered raises at the next call, and at the latest in `close`.
    """

    def __init__(self, settings: Settings, linger_ms: int) -> None:
        self._producer = Producer(
            producer_config(
                settings,
                linger_ms=linger_ms,
                queue_buffering_max_messages=QUEUE_RECORDS,
                # Only failures call back: a call into Python for each record would cost more than sending it.
                delivery_report_only_error=True,
            )
        )
        self._failure: str | None = None

    def send(self, topic: str, records: list[Record]) -> None:
        """Queue records; those of one key keep their order from call to call.

        Parameters
        ----------
        topic : str
        records : list of Record
            No key twice: what finds the queue full is queued after the others.

        Raises
        ------
        SimulationError
            An earlier record was not delivered, or the queue stays full.
        """
        give_up = time.monotonic() + FULL_QUEUE_S
        while records:
            queued = self._producer.produce_batch(topic, records, on_delivery=self._delivered)
            self._producer.poll(0)
            self._raise_failure()
            # Those that found the queue full are marked.
            records = [_unmarked(record) for record in records if "_error" in record] if queued < len(records) else []
            if records:
                self._wait_for_room(topic, give_up)

    def send_each(self, topic: str, records: list[Record], headers: list[tuple[str, bytes]]) -> None:
        """Queue records with headers, which a batch cannot have; raises as `send`."""
        give_up = time.monotonic() + FULL_QUEUE_S
        for record in records:
            while True:
                try:
                    self._producer.produce(topic, **record, headers=headers, on_delivery=self._delivered)
                    break
                except BufferError:
                    self._wait_for_room(topic, give_up)
            self._raise_failure()

    def close(self) -> None:
        """Wait until all is delivered.

        Raises
        ------
        SimulationError
            Something was not.
        """
        left = self._producer.flush(FLUSH_S)
        self._raise_failure()
        if left:
            raise SimulationError(f"Kafka did not acknowledge {left} records within {FLUSH_S:.0f} s")

    def _wait_for_room(self, topic: str, give_up: float) -> None:
        if time.monotonic() > give_up:
            raise SimulationError(f"{topic}: Kafka accepted no records for {FULL_QUEUE_S:.0f} s; is it up?")
        self._producer.poll(0.05)

    def _delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._failure is None:
            self._failure = f"{message.topic()}: a record was not delivered: {error.str()}"

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise SimulationError(self._failure)


def _unmarked(record: Record) -> Record:
    return {"key": record["key"], "value": record["value"]}


MOST_AT_ONCE = 2000


class Replies:
    """Recommendations that are made from now on.

    Reads all partitions without a group and commits nothing: whoever waits for an answer reads it once and drops
    copies; a simulator that starts later has no use for what was answered before.

    Attributes
    ----------
    undecodable : int
        Records so far that hold no recommendation.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topic = Topics.of(settings).recommendations.name
        self._codec = codec
        self.undecodable = 0
        self._consumer = AssignedConsumer(
            settings,
            topic,
            end_offsets(settings, topic),
            group="botify-sim",
            fetch_wait_max_ms=10,
            queued_min_messages=10_000,
        )

    def receive(self, wait_s: float, gather_s: float) -> list[Recommendation]:
        """Wait for the first recommendation, then take what has come.

        Parameters
        ----------
        wait_s : float
            How long to wait for the first.
        gather_s : float
            How long to go on collecting after it; a fuller batch costs less per recommendation.

        Raises
        ------
        TopicError
            The recommendations cannot be read.
        """
        values = [message.value() for message in self._consumer.poll(MOST_AT_ONCE, wait_s, gather_s)]
        read = self._codec.decode_many(values, Recommendation)
        recommendations = [one for one in read if not isinstance(one, DecodeError)]
        self.undecodable += len(read) - len(recommendations)
        return recommendations

    def close(self) -> None:
        """Stop reading."""
        self._consumer.close()


_BATCH = 10_000


def publish_catalogue(settings: Settings, catalogue: WorldCatalogue) -> int:
    """Write the tracks that the catalogue topic lacks or has otherwise.

    At-least-once and idempotent: the topic is compacted by track, and writing a track again changes nothing.

    Returns
    -------
    int
        How many records were written; 0 where the topic held this catalogue already.

    Raises
    ------
    TopicError
        The topic is missing, or no broker answers.
    SimulationError
        The topic holds tracks that this world has not, or the broker did not take a record.
    """
    codec = codec_of(settings)
    reader = CatalogueReader(settings, codec)
    try:
        reader.refresh()
    finally:
        reader.close()
    topic = Topics.of(settings).catalogue.name
    _refuse_larger(topic, reader.tracks, len(catalogue))
    changed = [track for track in tracks_of(catalogue) if reader.tracks.get(track.track) != track]
    sender = Sender(settings, linger_ms=20)
    for start in range(0, len(changed), _BATCH):
        batch = changed[start : start + _BATCH]
        sender.send(topic, [{"key": key_of(track.track), "value": codec.encode(track)} for track in batch])
    sender.close()
    return len(changed)


def tracks_of(catalogue: WorldCatalogue) -> Iterator[Track]:
    """Return the catalogue as events, in the order of the ids."""
    columns = zip(
        catalogue.artist_of.tolist(), catalogue.genre_of.tolist(), catalogue.albums, catalogue.titles, strict=True
    )
    for track, (artist, genre, album, title) in enumerate(columns):
        yield Track(track, catalogue.artists[artist], album, catalogue.genres[genre] if genre >= 0 else None, title)


def _refuse_larger(topic: str, held: dict[int, Track], tracks: int) -> None:
    surplus = [track for track in held if not 0 <= track < tracks]
    if surplus:
        raise SimulationError(
            f"{topic} holds {len(surplus)} tracks that this world of {tracks} has not, such as {surplus[0]}; tracks "
            "are never taken away, so use that world again, or another BOTIFY_TOPIC_PREFIX for this one"
        )
