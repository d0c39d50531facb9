"""Whole fetches of a partition as columns, in place of an object for each record.

aiokafka fetches. `fetch_columns` replaces what it reads records with; it needs compiled code, so until then, and where
batches are of an earlier version, records are objects.

`tests/unit/streams/worker/test_faust_contract.py` holds this to aiokafka 0.14.0.
"""

import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer import fetcher
from aiokafka.errors import KafkaError
from aiokafka.record.memory_records import MemoryRecords

from botify.core.errors import TopicError
from botify.core.kafka.headers import safe_headers
from botify.core.kafka.reader import IDLE_TIMEOUT_S, LogRecord
from botify.core.kafka.record_columns import CompressionError, RecordColumns, bound_aiokafka, read_batches
from botify.core.kafka.security import aiokafka_security
from botify.core.settings import Settings

FETCH_BYTES = 4 * 1024 * 1024  # most bytes of a fetch of `ColumnLog`, by default: about 32,000 listens
POLL_MS = 1_000
PARTITION_BATCH = 12_000
"""Most records of a batch; of objects, as a batch is one script in Redis, which blocks others for some 10 ms."""


class KeptRecords:
    """aiokafka's `MemoryRecords`, with the bytes of the fetch."""

    def __init__(self, raw: bytes) -> None:
        records = MemoryRecords(raw)
        self.raw = raw
        self.has_next = records.has_next
        self.next_batch = records.next_batch
        self.size_in_bytes = records.size_in_bytes


class ObjectRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # aiokafka has no types
    """The records of a fetch as objects, whatever the names of their headers; for some the code is compiled at once."""

    next_fetch_offset: int

    def __init__(self, tp: Any, records: Any, aborted: Any, fetch_offset: int, *rest: Any) -> None:
        self._aborted = aborted or ()
        super().__init__(tp, records, aborted, fetch_offset, *rest)

    def _unpack_records(self) -> Iterator[Any]:
        try:
            yield from super()._unpack_records()
        except (ValueError, CompressionError):  # the name of a header is not UTF-8; a batch cannot be unpacked
            if (read := self._read_columns()) is None:
                raise
            for record in read[0]:
                self.next_fetch_offset = record.offset + 1
                yield record
            self.next_fetch_offset = read[1]

    def _read_columns(self) -> tuple[RecordColumns, int] | None:
        topic, partition = self._tp
        return read_batches(topic, partition, self._records.raw, self.next_fetch_offset, self._aborted)

    def _consumer_record(self, tp: Any, record: Any) -> LogRecord:
        headers = safe_headers((name.encode(), value) for name, value in record.headers) if record.headers else ()
        return LogRecord(tp.topic, tp.partition, record.offset, record.timestamp, record.key, record.value, headers)


class ColumnRecords(ObjectRecords):
    """The records of a fetch as one `RecordColumns`; as objects where its batches are of an earlier version."""

    def __init__(self, tp: Any, records: Any, aborted: Any, fetch_offset: int, *rest: Any) -> None:
        super().__init__(tp, records, aborted, fetch_offset, *rest)
        # others were made before `fetch_columns`
        if isinstance(records, KeptRecords) and (read := self._read_columns()) is not None:
            self._records_iterator = self._whole(*read)

    def _whole(self, columns: RecordColumns, next_offset: int) -> Iterator[RecordColumns]:
        self.next_fetch_offset = next_offset
        if len(columns):
            yield columns


class FetchedRecords(list[Any]):
    """What was taken of a fetch: records, or one `RecordColumns`; `position` is that of the consumer before."""

    position = 0


class PositionedResult(fetcher.FetchResult):  # type: ignore[misc]  # aiokafka has no types
    """A fetch of a partition, whose records say from which position on they are all that there is."""

    def getall(self, max_records: int | None = None) -> FetchedRecords:
        position = self._partition_records.next_fetch_offset
        taken = FetchedRecords(super().getall(max_records))
        taken.position = position
        return taken


def fetch_columns() -> None:
    """Let all consumers of this process fetch columns. Their records are read without an object each."""
    fetcher.MemoryRecords, fetcher.PartitionRecords = KeptRecords, ColumnRecords
    bound_aiokafka()


def reading_safely(consumer: AIOKafkaConsumer) -> AIOKafkaConsumer:
    """Return the consumer, which is not started yet, reading committed records with any headers."""
    consumer._isolation_level = "read_committed"
    fetcher.FetchResult = PositionedResult
    bound_aiokafka()
    if fetcher.PartitionRecords is not ColumnRecords:
        fetcher.MemoryRecords, fetcher.PartitionRecords = KeptRecords, ObjectRecords
    return consumer


def as_batch(records: Sequence[Any]) -> Sequence[Any]:
    """Return what a fetch gave as one sequence of records: columns, if there are any, are alone in it."""
    return records[0] if isinstance(records[0], RecordColumns) else records


class ColumnLog:
    """Reads a partition in order from an offset up to another, a fetch at a time, and continues as it grows.

    It reads columns once `fetch_columns` was called; of objects a batch has at most `PARTITION_BATCH`.
    """

    def __init__(
        self, settings: Settings, topic: str, partition: int, start: int, fetch_bytes: int = FETCH_BYTES
    ) -> None:
        self.next_offset = start
        self._at = TopicPartition(topic, partition)
        self._consumer = reading_safely(
            AIOKafkaConsumer(
                bootstrap_servers=settings.kafka_bootstrap_servers.split(","),
                client_id="botify-offline",
                auto_offset_reset="none",
                enable_auto_commit=False,
                check_crcs=False,
                max_partition_fetch_bytes=fetch_bytes,
                **aiokafka_security(settings.kafka_security),
            )
        )
        self._started = False

    async def read_ahead(self, end: int) -> AsyncGenerator[Sequence[Any], None]:
        """Yield batches up to an offset (exclusive), while the next is fetched; raises `TopicError` if missing."""
        try:
            if self.next_offset < end:  # a consumer that stops as soon as it has started raises CancelledError
                await self._start()
            give_up = time.monotonic() + IDLE_TIMEOUT_S
            while self.next_offset < end:
                fetched = await self._consumer.getmany(self._at, timeout_ms=POLL_MS, max_records=PARTITION_BATCH)
                reached = await self._consumer.position(self._at)
                if reached > self.next_offset:
                    give_up = time.monotonic() + IDLE_TIMEOUT_S
                elif time.monotonic() > give_up:
                    raise TopicError(
                        f"{self._name}: no record for {IDLE_TIMEOUT_S:.0f} s at offset {self.next_offset}, before the "
                        f"end at {end}"
                    )
                self.next_offset = min(reached, end)
                if reached > end:  # the rest is fetched again
                    self._consumer.seek(self._at, end)
                for records in fetched.values():
                    if within := _before(as_batch(records), end):
                        yield within
        except KafkaError as error:
            raise TopicError(f"{self._name} cannot be read at offset {self.next_offset}: {error!r}") from error

    async def aclose(self) -> None:
        """Close the consumer."""
        await self._consumer.stop()

    async def _start(self) -> None:
        if not self._started:
            await self._consumer.start()
            self._started = True
            self._consumer.assign([self._at])
            self._consumer.seek(self._at, self.next_offset)

    @property
    def _name(self) -> str:
        return f"{self._at.topic}[{self._at.partition}]"


async def has_records(settings: Settings, topic: str, partition: int, begin: int, end: int) -> bool:
    """Return whether there are records from an offset up to another, and not only markers of transactions."""
    async with (
        aclosing(ColumnLog(settings, topic, partition, begin)) as log,
        aclosing(log.read_ahead(end)) as batches,
    ):
        return await anext(batches, None) is not None


def _before(records: Sequence[Any], end: int) -> Sequence[Any]:
    if records[-1].offset < end:
        return records
    if isinstance(records, RecordColumns):
        return records.until(end)
    return [record for record in records if record.offset < end]
