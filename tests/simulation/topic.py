"""The listens of a universe, and what they must come to: the fold of every prefix, made before anything can fail."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Coroutine, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import cache
from random import Random
from typing import Any, TypeVar

from botify.core.kafka.config import key_of
from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.event_time import LEAD_MS, SIMULATED_TIME, Lead
from botify.schemas.events import Listen, Session, TrainingBatch
from botify.schemas.training import listens_of
from botify.schemas.validation import ERASURE, MAX_ID_BYTES, MAX_TRACK, MAX_USER, Intake, Rejected
from botify.streams.store.protocol import MemoryStore
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import Publishable, WorkerPartition
from tests.simulation.timeline import Timeline, timeline

T = TypeVar("T")

CODEC = Codec()
TOPICS = 64
ERASING, ERASED = 4, 0.2
"""One of so many topics has records that erase a listener, and their share in it."""
PARTITIONS = 4
NAME, TOPIC_ID = "simulated.listens", "simulated-topic"
TRACKS = frozenset(range(1, 9))
LEAD = Lead(lambda: None)
"""The topics declare nothing, so that listens lead by their headers, by the broker's clock and by the newest listen."""
BASE_MS = 1_700_000_000_000
"""The brokers' clock at virtual time 0."""
RECORDS_UNTIL_S = 50.0
DAY_MS = 86_400_000
JUMPS_MS = (
    [0] * 24
    + [-60_000, -3_600_000, -800 * DAY_MS, 60_000, 2_000_000, 400 * DAY_MS]
    + [lead_ms + more for lead_ms in (LEAD_MS, 366 * DAY_MS) for more in (-1, 0, 1)]
)
"""By how much the clock of a producer is off: not, late, leading, by years, or at the bound of what is accepted."""
LAST_RECORDS_S = 66.0
"""After all faults, each partition gets one more record: a store that lost writes is noticed with the next apply."""

Contents = tuple[Mapping[str, Mapping[bytes, bytes]], Mapping[str, Mapping[bytes, float]]]
"""Hashes and sorted sets of a partition that are not empty."""


def partition_of(user: int) -> int:
    return user % PARTITIONS


def finish(work: Coroutine[Any, Any, T]) -> T:
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


def checkpoint_of(store: MemoryStore, partition: int) -> int:
    claim = store.checkpoints.get(partition)
    return claim.next_offset or 0 if claim else 0


def contents_of(store: MemoryStore, partition: int) -> Contents:
    hashes = {name: dict(of) for (p, name), of in store.hashes.items() if p == partition and of}
    scores = {name: dict(of) for (p, name), of in store.scores.items() if p == partition and of}
    return hashes, scores


@dataclass(slots=True)
class Expected:
    contents: dict[int, Contents] = field(default_factory=lambda: {0: ({}, {})})
    sessions: dict[str, tuple[int, Session]] = field(default_factory=dict)
    training: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    rejected: set[int] = field(default_factory=set)
    _before: dict[int, Mapping[str, AbstractSet[Any]]] = field(default_factory=dict)

    def published_before(self, checkpoint: int) -> Mapping[str, AbstractSet[Any]]:
        """Return what has to be published before a checkpoint is stored: ids of sessions, offsets of the others."""
        if checkpoint not in self._before:
            self._before[checkpoint] = {
                "sessions": {name for name, (offset, _) in self.sessions.items() if offset < checkpoint},
                "dead letters": {offset for offset in self.rejected if offset < checkpoint},
                "training": {after - 1 for after in self.contents if 0 < after <= checkpoint},
            }
        return self._before[checkpoint]


class PartitionLog:
    """The records of one partition, with the virtual times at which they are appended, and what they come to."""

    def __init__(self, partition: int, records: Sequence[LogRecord], at_s: Sequence[float]) -> None:
        self.partition = partition
        self.records = records
        self.at_s = at_s
        self.expected = _expected(partition, records)
        self._offsets = [record.offset for record in records]

    @property
    def end(self) -> int:
        return self.records[-1].offset + 1

    def visible(self, now_s: float, offset: int = 0) -> Sequence[LogRecord]:
        return self.records[bisect_left(self._offsets, offset) : bisect_right(self.at_s, now_s)]

    def grown_past(self, offset: int, now_s: float) -> bool:
        return bisect_left(self._offsets, offset) < bisect_right(self.at_s, now_s)

    def next_append(self, now_s: float) -> float:
        at = bisect_right(self.at_s, now_s)
        return self.at_s[at] if at < len(self.at_s) else math.inf


class _Noted:
    """A publisher that notes what it is given, with the offset at which this was."""

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.offset = 0

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        for event in events:
            if isinstance(event, Session):
                self.expected.sessions[event.event_id] = (self.offset, event)
            elif isinstance(event, TrainingBatch):
                self.expected.training.update(rows_of(event))
        self.expected.rejected.update(letter.record.offset for letter in rejected)


def rows_of(batch: TrainingBatch) -> dict[int, tuple[Any, ...]]:
    columns = listens_of(batch, b"")
    names = ("users", "tracks", "fractions", "timestamps_ms", "sessions", "ended")
    rows = zip(*(getattr(columns, name).tolist() for name in names), strict=True)
    return {batch.first_offset + at: row for at, row in zip(columns.offsets.tolist(), rows, strict=True)}


def _expected(partition: int, records: Sequence[LogRecord]) -> Expected:
    expected, store = Expected(), MemoryStore()
    publisher = _Noted(expected)
    claim = finish(store.claim(partition, "oracle", TOPIC_ID))
    intake = Intake(CODEC, TRACKS, lead=LEAD)
    fold = WorkerPartition(partition, claim, 0, store, intake, publisher, WorkerCounters(), training=True)
    for record in records:
        publisher.offset = record.offset
        finish(fold.process([record]))
        expected.contents[record.offset + 1] = contents_of(store, partition)
    return expected


@cache
def topic(number: int) -> Sequence[PartitionLog]:
    """Return the partitions of a topic: listens with duplicates, late and far ones, poison, erasures, and gaps."""
    rng = Random(f"topic {number}")
    erasing = None if number % ERASING else Random(f"erasures {number}")
    return [_partition(partition, rng, erasing, timeline(number)) for partition in range(PARTITIONS)]


def _partition(partition: int, rng: Random, erasing: Random | None, of: Timeline) -> PartitionLog:
    bursts_s = [rng.uniform(0.0, RECORDS_UNTIL_S) for _ in range(rng.randint(4, 9))]
    busy_s = [*sorted(rng.choice(bursts_s) for _ in range(rng.randint(6, 16))), LAST_RECORDS_S]
    at_s = [of.at(busy) for busy in busy_s]
    users = [partition, partition + PARTITIONS, MAX_USER - MAX_USER % PARTITIONS - PARTITIONS + partition]
    sessions = dict.fromkeys(users, 0)
    speed = rng.choice([1.0, 60.0, 240.0])  # of event time
    records: list[LogRecord] = []
    offset = 0
    for number, (at, busy) in enumerate(zip(at_s, busy_s, strict=True)):
        taken_ms = BASE_MS + int(at * 1000)
        user = rng.choice(users)
        ended = rng.random() < 0.2
        jump_ms = rng.choice(JUMPS_MS)
        listen = Listen(
            rng.choice([f"{partition}:{number}"] * 9 + [f"{partition}:{number}".ljust(MAX_ID_BYTES + number % 2, "x")]),
            user,
            rng.choice([*range(1, 9)] * 4 + [9, MAX_TRACK]),  # the last two are not in the catalogue
            rng.choice([0.0, 1.0, round(rng.random(), 3)]),
            BASE_MS + int((at + busy * (speed - 1)) * 1000) + jump_ms,
            f"s{user}-{sessions[user]}",
            number,
            ended,
            rng.choice([None, "mix", "memory"]),
            {},
            None,
            None,
        )
        sessions[user] += ended
        value: bytes | None = CODEC.encode(listen)
        key = key_of(user)
        if records and rng.random() < 0.15:  # a copy of an earlier record
            key, value = (earlier := rng.choice(records)).key or b"", earlier.value
        elif rng.random() < 0.05:
            key, value = rng.choice([(key, None), (key, b"?"), (b"0", value)])
        headers = [SIMULATED_TIME] if speed > 1 and rng.random() < 0.9 else []
        if erasing is not None and erasing.random() < ERASED:
            key, value, headers = key_of(erasing.choice(users)), None, [(ERASURE, b"")]
        records.append(LogRecord(NAME, partition, offset, taken_ms, key, value, headers))
        offset += rng.choice([1] * 15 + [2, 4])  # markers of transactions, compaction
    return PartitionLog(partition, records, at_s)
