"""One partition of a topic, read in order from an offset up to another, as often as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import NamedTuple

from core.kafka.reader import WAIT_S, TopicReader
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
    """

    def __init__(self, settings: Settings, topic: str, partition: int, start: int, batch: int = BATCH) -> None:
        self._topic, self._partition = topic, partition
        self._reader = TopicReader(
            settings,
            topic,
            {partition: start},
            [partition],
            batch,
            gather_s=WAIT_S,
            group="botify-offline",
            queued_max_messages_kbytes=PREFETCH_KB,
            auto_offset_reset="error",
        )

    @property
    def next_offset(self) -> int:
        """The record that comes next."""
        return self._reader.next_offsets[self._partition]

    def read_to(self, end: int) -> Iterator[list[LogRecord]]:
        """Yield batches up to an offset (not included), which must exist already. Blocks while it waits for data.

        Raises
        ------
        TopicError
            The partition cannot be read, or does not get that far.
        """
        topic, partition = self._topic, self._partition
        for messages in self._reader.read_to_end({partition: end}):
            yield [
                LogRecord(
                    topic,
                    partition,
                    message.offset(),
                    message.timestamp()[1],
                    message.key(),
                    message.value(),
                    message.headers() or (),
                )
                for message in messages
            ]

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
        self._reader.close()
