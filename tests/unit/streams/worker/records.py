"""Kafka records and runs of them, as the worker meets them; and a worker of one partition."""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from botify.core.kafka.config import key_of
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.validation import Intake, Rejected
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.store.protocol import MemoryStore, Outcome
from botify.streams.worker.folding import BY_LISTEN, Folding
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import Publishable, WorkerPartition
from botify.streams.worker.partition_manager import Batch

T = TypeVar("T")

CODEC = Codec()
TOPIC = "botify.listens"
NOW_MS = 1_700_000_000_000
"""When the broker took the records."""


class KafkaRecord(NamedTuple):
    """The attributes of `aiokafka.ConsumerRecord` that the worker uses."""

    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int = NOW_MS
    partition: int = 0
    topic: str = TOPIC
    headers: Sequence[tuple[str, bytes]] = ()


def listen(event_id: str, user: int = 42, track: int = 7, *, ended: bool = False, timestamp_ms: int = 1_000) -> Listen:
    return Listen(event_id, user, track, 0.5, timestamp_ms, "s", 0, ended, None, {}, None, None)


def record(
    offset: int, event: Listen | None = None, *, key: bytes | None = None, raw: bytes | None = None
) -> KafkaRecord:
    """A record of a listen (its event id made of the offset), or of raw bytes."""
    event = event or listen(f"e{offset}")
    return KafkaRecord(offset, key or key_of(event.user), CODEC.encode(event) if raw is None else raw)


def run_of(*offsets: int, partition: int = 0, position: int | None = None) -> Batch:
    """Return records as they were fetched from a position on, by default that of the first."""
    records = [record(offset)._replace(partition=partition) for offset in offsets]
    return Batch(partition, records, offsets[0] if position is None else position)


def parts(records: Sequence[T], cuts: Iterable[int]) -> list[Sequence[T]]:
    """Cut records into runs, none of them empty."""
    bounds = [0, *sorted({cut for cut in cuts if 0 < cut < len(records)}), len(records)]
    return [records[begin:end] for begin, end in pairwise(bounds)]


class Sent:
    """Remembers what was emitted and where the checkpoint stood."""

    def __init__(self, store: MemoryStore, partition: int) -> None:
        self._store, self._partition = store, partition
        self.events: list[Publishable] = []
        self.rejected: list[tuple[int, str, str]] = []
        self.checkpoints: list[int | None] = []

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        self.events += events
        self.rejected += [(one.record.offset, type(one.reason).__name__, str(one.reason)) for one in rejected]
        self.checkpoints.append(self._store.checkpoints[self._partition].next_offset)

    def of(self, kind: type[T]) -> list[T]:
        return [event for event in self.events if isinstance(event, kind)]

    def rejected_offsets(self) -> list[int]:
        return [offset for offset, _, _ in self.rejected]


class Worker:
    """One claimed partition over a store in memory; `folding` may change between runs."""

    def __init__(
        self,
        folding: Folding = BY_LISTEN,
        projections: Collection[str] = PROJECTIONS,
        *,
        intake: Intake | None = None,
        store: MemoryStore | None = None,
        partition: int = 0,
    ) -> None:
        self.folding, self._projections, self._number = folding, projections, partition
        self._intake = intake or Intake(CODEC, {7}, lambda: None)
        self.store = store or MemoryStore()
        self.sent, self.counters = Sent(self.store, partition), WorkerCounters()
        self.claim_again()

    def claim_again(self) -> None:
        """Continue as another worker, which has nothing in memory."""
        claim = asyncio.run(self.store.claim(self._number, "me", "t"))
        opening = (self._number, claim, claim.next_offset or 0, self.store, self._intake, self.sent, self.counters)
        self.partition = WorkerPartition(*opening, self._projections, training=True, folding=lambda: self.folding)

    def process(self, records: Sequence[Any]) -> Outcome:
        return asyncio.run(self.partition.process(records))

    def contents(self) -> dict[str, object]:
        """Return everything in the store, without what differs from claim to claim."""
        collections = {**self.store.hashes, **self.store.scores}
        next_offset = self.store.checkpoints[self._number].next_offset
        return {**{name: items for (_, name), items in collections.items() if items}, "next_offset": next_offset}
