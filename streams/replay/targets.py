"""Destinations of a replay: a namespace, another topic, standard output."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import aclosing, closing, contextmanager
from typing import Any, Protocol, TextIO

from confluent_kafka.admin import AdminClient

from botify.core.errors import DecodeError
from botify.core.kafka.admin import describe_topic, partition_counts
from botify.core.kafka.column_fetch import ColumnLog
from botify.core.kafka.config import common_config
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import LogRecord
from botify.core.process import gather_or_cancel
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, worker_group_of
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.popularity import TrackRows
from botify.streams.replay.sources import Pacer, ReplayError, ReplaySources
from botify.streams.store.keys import checkpoint_key
from botify.streams.store.protocol import Outcome, offset_to_start_at
from botify.streams.store.redis_store import RedisStore
from botify.streams.worker.folding import Folding, columns_when_compiled
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import KafkaPublisher, NullPublisher, Publisher, WorkerPartition

AT_ONCE = 4  # partitions that are read at a time; each has a consumer with prefetched records

Progress = Callable[[int], None]  # told how many offsets were processed since the last call


class Target(Protocol):
    """A destination of a replay."""

    async def open(self, partition: int, start: int) -> int:
        """Return the offset to begin at: `start`, or a later one if a part was done before."""

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Write records, and return when they are durable."""


async def write_partitions(
    sources: ReplaySources,
    target: Target,
    start: Mapping[int, int],
    end: Mapping[int, int],
    pacer: Pacer | None = None,
    progress: Progress = lambda offsets: None,
) -> None:
    """Write the records between start and end to the target, each partition in order."""
    pace = pacer or Pacer()
    # paced by the records' times, all partitions run together
    free = asyncio.Semaphore(len(end) if pace.by_time else AT_ONCE)

    async def copy(partition: int) -> None:
        async with free:
            await _copy_partition(sources, target, partition, start[partition], end[partition], pace, progress)

    await gather_or_cancel(map(copy, end))


async def _copy_partition(
    sources: ReplaySources, target: Target, partition: int, start: int, end: int, pacer: Pacer, progress: Progress
) -> None:
    begin = await target.open(partition, start)
    progress(min(begin, end) - start)
    if begin >= end:
        return
    reached = begin
    async with (
        aclosing(ColumnLog(sources.settings, sources.topic, partition, begin)) as log,
        aclosing(log.read_ahead(end)) as batches,
    ):
        async for batch in batches:
            for part in pacer.parts(batch):
                await pacer.wait(part)
                await target.write(partition, part)
                progress(part[-1].offset + 1 - reached)
                reached = part[-1].offset + 1
    progress(end - reached)


class NamespaceTarget:
    """Writes state. Delivery is exactly once: the checkpoint moves with the state, so a replay can be resumed.

    Without `publisher` nothing is published: that was done when the records were first folded.
    """

    def __init__(
        self,
        sources: ReplaySources,
        namespace: str,
        projections: Collection[str] = PROJECTIONS,
        publisher: Publisher | None = None,
        folding: Callable[[], Folding] | None = None,
    ) -> None:
        self._sources, self._namespace = sources, namespace
        self._projections, self._folding = projections, folding
        self._publisher = publisher or NullPublisher()
        self._store = RedisStore(sources.redis, namespace, letters=sources.letters)
        self._owner = f"replay-{uuid.uuid4().hex}"
        self._claimed: dict[int, WorkerPartition] = {}
        self.counters = WorkerCounters()
        self._rows = TrackRows()

    async def prepare(self, partition: int, start: int, *, even_at_0: bool = False) -> None:
        """Make the partition begin at an offset, unless it has begun; `even_at_0` it is then no missing state."""
        if start > 0 or even_at_0:
            key = checkpoint_key(self._namespace, partition)
            # together: a store that rolls back between them would leave a state that seems to begin at offset 0
            async with self._sources.redis.pipeline(transaction=True) as pipeline:
                pipeline.hsetnx(key, "first_offset", start)
                pipeline.hsetnx(key, "next_offset", start)
                pipeline.hsetnx(key, "letters", json.dumps(self._sources.letters()))
                await pipeline.execute()

    async def open(self, partition: int, start: int) -> int:
        """Claim the partition and return its checkpoint.

        Raises `TopicMismatchError` if the namespace is of another topic, or needs records that are gone.
        """
        if (known := self._claimed.get(partition)) is not None:
            return known.next_offset
        sources = self._sources
        claim = await self._store.claim(partition, self._owner, sources.state.topic_id)
        sources.leave_out(partition, claim.letters)
        state = sources.state
        if claim.next_offset is not None and claim.next_offset > state.end[partition]:
            # the topic has grown since, and a worker has folded the new records
            group = worker_group_of(sources.settings)
            state = await asyncio.to_thread(describe_topic, sources.settings, sources.topic, group)
        begin = offset_to_start_at(partition, claim, state, rebuild_missing=True)
        if (folding := self._folding) is None:
            folding = await asyncio.to_thread(columns_when_compiled, sum(state.end.values()))
        opening = (partition, claim, begin, self._store, sources.intake, self._publisher, self.counters)
        self._claimed[partition] = WorkerPartition(*opening, self._projections, self._rows, folding=folding)
        return begin

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Fold the records; raises `ReplayError` if another process writes the namespace, or Redis lost writes."""
        outcome, where = await self._claimed[partition].process(records), f"partition {partition} of {self._namespace}"
        if outcome is Outcome.FENCED:
            raise ReplayError(f"another process has claimed {where}; only one process may write it")
        if outcome is Outcome.ROLLED_BACK:
            raise ReplayError(f"Redis lost writes to {where}; run it again to resume")


@contextmanager
def sessions_sent_to(settings: Settings, topic: str | None) -> Iterator[Publisher]:
    """Yield a publisher of sessions to a topic; None publishes nothing."""
    if topic is None:
        yield NullPublisher()
        return
    with closing(KafkaPublisher(settings, codec_of(settings), only_sessions_to=topic)) as publisher:
        yield publisher


def check_sessions_topic(settings: Settings, topic: str) -> None:
    """Raise `ReplayError` if a topic for a replay's sessions does not exist, or is one of the deployment's."""
    if topic in {own.name for own in Topics.of(settings).all()}:
        raise ReplayError(f"{topic} has records of its own; choose another topic for the sessions")
    if topic not in partition_counts(AdminClient(common_config(settings))):
        raise ReplayError(
            f"topic {topic} does not exist; create it first, preferably with as many partitions as the sessions topic"
        )


class TopicTarget:
    """Copies key, value, headers and timestamp to another topic; raises `ReplayError` if that is not suitable.

    Delivery is at least once: an interrupted copy starts again. If both topics have the same number of partitions, a
    record keeps its partition; otherwise its key decides.
    """

    def __init__(self, settings: Settings, source: str, topic: str) -> None:
        if topic == source:
            raise ReplayError(f"{topic} cannot be copied onto itself; choose another topic")
        counts = partition_counts(AdminClient(common_config(settings)))
        if topic not in counts:
            raise ReplayError(
                f"topic {topic} does not exist; create it first, preferably with {counts[source]} partitions"
            )
        self._topic = topic
        self._same_partitions = counts[topic] == counts[source]
        self._publisher = RecordPublisher(settings, linger_ms=5)

    async def open(self, partition: int, start: int) -> int:
        """Return the start: earlier copies are unknown."""
        return start

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Publish the records and wait for acknowledgement; raises PublishError without it."""
        await asyncio.to_thread(self._write, records)

    def _write(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            self._publisher.send(
                self._topic,
                record.value,
                record.key,
                partition=record.partition if self._same_partitions else -1,
                timestamp_ms=record.timestamp,
                headers=record.headers,
            )
        self._publisher.flush()


class LinesTarget:
    """Writes each record as a line of JSON; a value that is no listen is in hexadecimal."""

    def __init__(self, out: TextIO, codec: Codec) -> None:
        self._out = out
        self._codec = codec

    async def open(self, partition: int, start: int) -> int:
        return start

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Write the lines; blocks while their reader does."""
        self._out.write("".join(f"{json.dumps(self._line(record))}\n" for record in records))
        self._out.flush()

    def _line(self, record: LogRecord) -> dict[str, Any]:
        line: dict[str, Any] = {
            "partition": record.partition,
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": _text(record.key),
            "headers": {name: _text(value) for name, value in record.headers},
        }
        try:
            line["listen"] = self._codec.decode(record.value, Listen)._asdict()
        except DecodeError:
            line["value_hex"] = None if record.value is None else record.value.hex()
        return line


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")
