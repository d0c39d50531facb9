"""Reads a topic up to its end and stops: for catalogues, tables, verification. No group, nothing is committed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from core.errors import TopicError
from core.kafka.admin import end_offsets
from core.kafka.config import consumer_config, is_retriable
from core.settings import Settings

BATCH = 10_000
WAIT_S = 0.2
GATHER_S = 0.005
"""Once a record has come, how long others may take to join it; a short topic is at its end by then."""
RETRY_PAUSE_S = 0.05
IDLE_TIMEOUT_S = 30.0
"""How long the reader waits for a record that the broker says exists."""


class TopicReader:
    """Reads from given offsets (the beginning by default) to the end, again and again as the topic grows.

    Parameters
    ----------
    start : mapping of partition to offset, optional
        First offset to be read; partitions that are not named start at the beginning.
    """

    def __init__(self, settings: Settings, topic: str, start: Mapping[int, int] | None = None) -> None:
        self._settings = settings
        self._topic = topic
        begin = start or {}
        # 0 rather than OFFSET_BEGINNING, which costs librdkafka half a second to look up; what retention has removed
        # is skipped by `auto.offset.reset`
        self._next = {partition: begin.get(partition, 0) for partition in end_offsets(settings, topic)}
        self._overshot = False
        # made just before it is assigned: once connected, it looks for new leaders at its next tick only, a second on
        self._consumer = Consumer(
            consumer_config(settings, group="botify-reader", enable_partition_eof=True, fetch_wait_max_ms=10)
        )
        self._assign()

    def read_to_end(self, end: Mapping[int, int] | None = None) -> Iterator[list[Message]]:
        """Yield batches of records until the end is reached.

        Parameters
        ----------
        end : mapping of partition to offset, optional
            Where to stop (not included); by default where the topic ends now.

        Raises
        ------
        TopicError
            The broker stops answering.
        """
        stop = dict(end) if end is not None else end_offsets(self._settings, self._topic)
        open_partitions = {p for p, offset in stop.items() if self._next[p] < offset}
        if self._overshot:  # the call before took records from the broker that lie after its end: fetch them again
            self._assign()
            self._overshot = False
        give_up = time.monotonic() + IDLE_TIMEOUT_S
        batch: list[Message] = []
        while open_partitions:
            came = self._take(BATCH - len(batch))
            for message in came:
                partition, error = message.partition(), message.error()
                if error is None:
                    if message.offset() < stop.get(partition, 0):
                        batch.append(message)
                        self._next[partition] = message.offset() + 1
                    else:
                        self._overshot = True
                        open_partitions.discard(partition)
                elif error.code() == KafkaError._PARTITION_EOF:
                    # what lies between the last record and the end is not data (compacted, transaction markers)
                    reached = min(message.offset(), stop.get(partition, 0))
                    self._next[partition] = max(self._next[partition], reached)
                elif not is_retriable(error):
                    raise TopicError(f"{self._topic}[{partition}] cannot be read: {error.str()}")
                if self._next[partition] >= stop.get(partition, 0):
                    open_partitions.discard(partition)
                give_up = time.monotonic() + IDLE_TIMEOUT_S
            if batch and (not came or not open_partitions or len(batch) >= BATCH):
                yield batch
                batch = []
            if time.monotonic() > give_up:
                raise TopicError(f"{self._topic}: no record for {IDLE_TIMEOUT_S:.0f} s, partitions {open_partitions}")

    def _assign(self) -> None:
        self._consumer.assign([TopicPartition(self._topic, p, offset) for p, offset in self._next.items()])

    def _take(self, most: int) -> list[Message]:
        """Return what comes soon; unlike `consume` alone, which would wait for all of `most` until its time is over."""
        first = self._consumer.poll(WAIT_S)
        return [] if first is None else [first, *self._consumer.consume(most - 1, timeout=GATHER_S)]

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()
