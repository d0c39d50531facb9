"""One partition of a topic, read in order from an offset up to another, as often as it grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any, NamedTuple

from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

from core.errors import TopicError
from core.kafka.config import consumer_config, is_retriable
from core.kafka.reader import IDLE_TIMEOUT_S
from core.settings import Settings

BATCH = 12_000
"""Records of one batch; a batch is one script in Redis, which keeps others waiting for some 10 ms."""
PREFETCH_KB = 32 * 1024


class LogRecord(NamedTuple):
    """A record as the intake wants it: with the attributes of `aiokafka.ConsumerRecord`."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class PartitionLog:
    """Reads a partition with a consumer of its own, without a group; nothing is committed.

    Parameters
    ----------
    batch : int
        Records of one batch, at the most.

    Attributes
    ----------
    next_offset : int
        The record that comes next.
    """

    def __init__(self, settings: Settings, topic: str, partition: int, start: int, batch: int = BATCH) -> None:
        self.next_offset = start
        self._batch = batch
        self._topic, self._partition = topic, partition
        self._name = f"{topic}[{partition}]"
        self._ahead: list[LogRecord] = []  # consumed, but past the end that was asked for
        config: dict[str, Any] = {
            "enable_partition_eof": True,
            "fetch_wait_max_ms": 10,
            "queued_max_messages_kbytes": PREFETCH_KB,
            "auto_offset_reset": "error",
        }
        self._consumer = Consumer(consumer_config(settings, group="botify-offline", **config))
        self._consumer.assign([TopicPartition(topic, partition, start)])

    def read_to(self, end: int) -> Iterator[list[LogRecord]]:
        """Yield batches up to an offset (not included), which must exist already. Blocks while it waits for data.

        Raises
        ------
        TopicError
            The partition cannot be read, or does not get that far.
        """
        give_up = time.monotonic() + IDLE_TIMEOUT_S
        while self.next_offset < end:
            batch = self._ahead or self._consume(end - self.next_offset)
            within = batch
            if batch and batch[-1].offset >= end:
                within = [record for record in batch if record.offset < end]
            self._ahead = batch[len(within) :]
            if batch:
                self.next_offset = end if self._ahead else max(self.next_offset, batch[-1].offset + 1)
                give_up = time.monotonic() + IDLE_TIMEOUT_S
            elif self.next_offset < end and time.monotonic() > give_up:
                raise TopicError(f"{self._name}: no record for {IDLE_TIMEOUT_S:.0f} s at offset {self.next_offset}")
            if within:
                yield within

    async def read_ahead(self, end: int) -> AsyncGenerator[list[LogRecord], None]:
        """Yield what `read_to` yields, and fetch the next batch in a thread while the last one is worked on.

        Close the generator (`contextlib.aclosing`) before the log.
        """
        batches = self.read_to(end)
        fetched = asyncio.create_task(asyncio.to_thread(next, batches, None))
        try:
            while (batch := await fetched) is not None:
                fetched = asyncio.create_task(asyncio.to_thread(next, batches, None))
                yield batch
        finally:
            await asyncio.wait([fetched])  # a thread cannot be cancelled, and the log is closed after this

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def _consume(self, most: int) -> list[LogRecord]:
        """Return some records, or none; the end of the partition moves `next_offset` on."""
        records = []
        for message in self._consumer.consume(min(self._batch, most), timeout=0.2):
            error = message.error()
            if error is None:
                records.append(self._record(message))
            elif error.code() == KafkaError._PARTITION_EOF:
                # what lies between the last record and the end is not data (transaction markers)
                self.next_offset = max(self.next_offset, message.offset())
            elif not is_retriable(error):
                raise TopicError(f"{self._name} cannot be read at offset {self.next_offset}: {error.str()}")
        return records

    def _record(self, message: Message) -> LogRecord:
        return LogRecord(
            self._topic,
            self._partition,
            message.offset(),
            message.timestamp()[1],
            message.key(),
            message.value(),
            message.headers() or (),
        )
