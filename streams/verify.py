"""Fold the topic offline up to the checkpoints, and compare the result with every item of the state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import NamedTuple

from botify.core.errors import BotifyError
from botify.core.kafka.admin import TopicState, end_offsets
from botify.core.kafka.column_fetch import ColumnLog, has_records
from botify.core.kafka.reader import LogRecord
from botify.core.process import gather_or_cancel
from botify.core.settings import Settings
from botify.schemas.validation import Intake
from botify.streams.folds.partition import HASHES, PROJECTIONS, SCORE_SETS
from botify.streams.replay.sources import ReplaySources, open_sources
from botify.streams.store.keys import feedback_of
from botify.streams.store.namespaces import NamespaceRecords, checkpoints, excluded_since, live_namespace
from botify.streams.store.protocol import Items, MemoryStore
from botify.streams.store.redis_store import NOT_OF_THIS_TOPIC, PartitionCopy, RedisContents, point_in_time_copy
from botify.streams.worker.folding import Folding, by_feedback, by_listen, columns_when_compiled
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import NullPublisher, Publisher, WorkerPartition

FIRST_DIFFERENCES = 20  # number of differences that are kept; all are counted
AT_ONCE = 2
"""Partitions at the same time: one is folded while the other waits for its records, or for pages of the state."""
BATCH_BYTES = 16 * 1024 * 1024
"""Most bytes of a batch. After each one the state of all that it has touched is written; here that is to memory."""


MOVE_S = 10.0
"""How long a checkpoint may stand while records wait; after a worker was killed, the next one takes some of it."""
POLL_S = 0.2


class Difference(NamedTuple):
    """An item of the state that differs from the fold."""

    partition: int
    collection: str
    item: bytes  # field of the hash or member of the sorted set
    # expected, found: by the fold, and in the store; None if it is missing
    expected: bytes | float | None
    found: bytes | float | None


@dataclass(slots=True)
class Report:
    """The result of a verification."""

    namespace: str
    # offset up to which each partition was folded and compared
    checkpoints: dict[int, int] = field(default_factory=dict)
    # listens, duplicates, dead_letters: of the topic, up to the checkpoints
    listens: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    compared: dict[str, int] = field(default_factory=dict)  # collection -> number of items in the fold or the store
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)  # the first of them
    excluded_since: int = 0  # listens excluded since the namespace was begun, which may explain differences
    unfolded: int = 0  # offsets between the checkpoints and the end of the topic
    # partitions of the live namespace with such records whose checkpoint does not move for `MOVE_S`
    standing: list[int] = field(default_factory=list)
    # the result for the opinions, if they were compared; its listens are records of the feedback
    feedback: Report | None = None
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.differing and (self.feedback is None or self.feedback.ok)

    @property
    def records(self) -> int:
        return self.listens + self.dead_letters

    def count(self, collection: str, items: int, differences: list[Difference]) -> None:
        self.compared[collection] = self.compared.get(collection, 0) + items
        self.differing += len(differences)
        self.differences += differences[: FIRST_DIFFERENCES - len(self.differences)]


async def compare(
    partition: int, collection: str, expected: Items, pages: AsyncIterator[Items]
) -> tuple[int, list[Difference]]:
    """Return the number of items in either, and those that differ. `pages`: of the store; an item may occur twice."""
    seen: set[bytes] = set()
    differences = []
    async for page in pages:
        if not page.items() <= expected.items():
            differences += [
                Difference(partition, collection, item, expected.get(item), value)
                for item, value in page.items()
                if item not in seen and expected.get(item) != value
            ]
        seen.update(page)
    missing = expected.keys() - seen
    differences += [Difference(partition, collection, item, expected[item], None) for item in sorted(missing)]
    return len(seen) + len(missing), differences


async def have_same_items(one: RedisContents | MemoryStore, other: RedisContents | MemoryStore, partition: int) -> bool:
    """Say whether two states of a partition are equal; memory is bounded by the largest collection."""
    for name in (*HASHES, *SCORE_SETS):
        items: dict[bytes, bytes | float] = {}
        async for page in one.pages(partition, name):
            items.update(page)
        found = set[bytes]()
        async for page in other.pages(partition, name):
            if not page.items() <= items.items():
                return False
            found.update(page)
        if len(found) < len(items):
            return False
    return True


Progress = Callable[[int, int], None]  # told how many records are folded since it was last told, and how many there are


class VerifyError(BotifyError):
    """The state cannot be compared with the topic."""


def verify(
    settings: Settings,
    namespace: str | None = None,
    partitions: Collection[int] | None = None,
    progress: Progress = lambda records, total: None,
    *,
    one_by_one: bool = False,
) -> Report:
    """Compare a namespace, by default the live one, with the topic; workers may run.

    Memory is bounded by the state of two partitions. `one_by_one` folds without the code that folds in columns. Raises
    `VerifyError` if the state is of another topic, or the topic has lost records of the state.
    """

    async def work() -> Report:
        started = time.monotonic()
        if not one_by_one:
            columns_when_compiled(0)  # its code is read from the cache while the sources are opened
        async with open_sources(settings) as sources:
            report = Report(namespace or await live_namespace(sources.redis, settings.topic_prefix))
            record = await NamespaceRecords(sources.redis, settings.topic_prefix).find(report.namespace)
            folded = record.projections if record else PROJECTIONS
            report.excluded_since = sum(excluded_since(record, sources.excluded).values())
            chosen = sorted(sources.state.end if partitions is None else partitions)
            total = sum(sources.state.end[partition] for partition in chosen)
            folding = by_listen if one_by_one else await asyncio.to_thread(columns_when_compiled, total)
            await _verify_topic(sources, chosen, folded, report, folding, lambda records: progress(records, total))
            live = report.namespace == await live_namespace(sources.redis, settings.topic_prefix)
            await _watch_end(sources, report, live=live)
            if sources.feedback is not None and partitions is None:
                said = report.feedback = Report(feedback_of(report.namespace))
                await _verify_topic(sources.feedback, sorted(sources.feedback.state.end), (), said, by_feedback)
                await _watch_end(sources.feedback, said, live=live)
        report.seconds = time.monotonic() - started
        return report

    return asyncio.run(work())


async def _verify_topic(
    sources: ReplaySources,
    partitions: Collection[int],
    projections: Collection[str],
    report: Report,
    folding: Callable[[], Folding],
    progress: Callable[[int], None] = lambda records: None,
) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def report_on(partition: int) -> None:
        async with room:
            progress(await _verify_partition(sources, partition, projections, report, folding))

    await gather_or_cancel(map(report_on, partitions))
    report.checkpoints = dict(sorted(report.checkpoints.items()))
    report.differences.sort(key=lambda difference: difference.partition)


class OfflineFold:
    """Folds one partition with the worker's own code into a `MemoryStore`."""

    def __init__(
        self,
        partition: int,
        intake: Intake,
        projections: Collection[str] = PROJECTIONS,
        publisher: Publisher | None = None,
        store: MemoryStore | None = None,
        folding: Callable[[], Folding] = by_listen,
    ) -> None:
        self.store, self.counters = store or MemoryStore(), WorkerCounters()
        self._publisher: Publisher = publisher or NullPublisher()
        self._partition, self._intake = partition, intake
        self._projections, self._folding = projections, folding
        self._claimed: WorkerPartition | None = None

    async def advance(self, records: Sequence[LogRecord]) -> None:
        """Fold records that follow those of the last call."""
        if self._claimed is None:
            claim = await self.store.claim(self._partition, "offline", "")
            opening = (self._partition, claim, records[0].offset, self.store, self._intake, self._publisher)
            self._claimed = WorkerPartition(*opening, self.counters, self._projections, folding=self._folding)
        await self._claimed.process(records)

    async def advance_to(self, log: ColumnLog, end: int) -> None:
        async with aclosing(log.read_ahead(end)) as batches:
            async for batch in batches:
                await self.advance(batch)


async def _verify_partition(
    sources: ReplaySources, partition: int, projections: Collection[str], report: Report, folding: Callable[[], Folding]
) -> int:
    """Add a partition to the report, and return the number of its records."""
    await _check_end(sources, report.namespace, partition)
    # the first copy gives the bulk to fold; the second is only a little further
    async with point_in_time_copy(sources.redis, report.namespace, partition) as first:
        begin, reached = first.first_offset, _checked(sources.topic, partition, first, sources.state)
    sources.leave_out(partition, first.letters)
    offline = OfflineFold(partition, sources.intake, projections, folding=folding)
    async with aclosing(ColumnLog(sources.settings, sources.topic, partition, begin, BATCH_BYTES)) as log:
        await offline.advance_to(log, reached)
        async with point_in_time_copy(sources.redis, report.namespace, partition) as last:
            reached = _checked(sources.topic, partition, last, sources.state)
            if reached < log.next_offset:
                raise VerifyError(
                    f"{sources.topic}[{partition}]: the checkpoint went back from {log.next_offset} to {reached} "
                    "meanwhile; Redis lost writes. Verify again when the worker has caught up."
                )
            await offline.advance_to(log, reached)
            await _compare_all(offline, last, partition, report)
    report.checkpoints[partition] = reached
    if last.letters is None:  # it was begun by an earlier version, and may have some of them
        report.excluded_since += len(sources.erased(partition, None))
    report.listens += offline.counters.listens
    report.duplicates += offline.counters.duplicates
    report.dead_letters += offline.counters.dead_letters
    return offline.counters.listens + offline.counters.dead_letters


async def _check_end(sources: ReplaySources, namespace: str, partition: int) -> None:
    """Refuse a state that has folded records which the topic has lost: a fold would wait for them."""
    (reached,) = (await checkpoints(sources.redis, namespace, [partition])).values()
    if reached <= sources.state.end[partition]:
        return
    end = (await asyncio.to_thread(end_offsets, sources.settings, sources.topic))[partition]  # it may have grown
    if reached > end:
        raise VerifyError(
            f"{sources.topic}[{partition}]: the state is at offset {reached}, the topic ends at {end}: it has lost "
            "records. `botify replay run` and `botify replay swap` rebuild the state from what is left."
        )


async def _watch_end(sources: ReplaySources, report: Report, *, live: bool) -> None:
    """Note how much is not folded yet, and, of the live namespace, where nobody folds it."""
    ends = await asyncio.to_thread(end_offsets, sources.settings, sources.topic)
    reached = {partition: at for partition, at in report.checkpoints.items() if at < ends[partition]}
    report.unfolded = sum(ends[partition] - at for partition, at in reached.items())
    if not live:
        return
    for partition, at in reached.items():
        if await has_records(sources.settings, sources.topic, partition, at, ends[partition]):
            report.standing.append(partition)
    give_up = time.monotonic() + MOVE_S
    while report.standing and time.monotonic() < give_up:
        await asyncio.sleep(POLL_S)
        now = await checkpoints(sources.redis, report.namespace, report.standing)
        report.standing = [partition for partition in report.standing if now[partition] <= reached[partition]]


async def _compare_all(offline: OfflineFold, state: PartitionCopy, partition: int, report: Report) -> None:
    for name in (*HASHES, *SCORE_SETS):
        expected, found = offline.store.items(partition, name), state.contents.pages(partition, name)
        report.count(name, *await compare(partition, name, expected, found))


def _checked(topic: str, partition: int, state: PartitionCopy, now: TopicState) -> int:
    """Return the checkpoint; raise VerifyError if the state cannot be compared."""
    if state.next_offset is None:
        return state.first_offset
    if state.topic_id != now.topic_id:
        raise VerifyError(
            f"{topic} was deleted and recreated (id {now.topic_id}; the state is of {state.topic_id}). "
            "Replay it into a new namespace."
        )
    if state.first_offset == NOT_OF_THIS_TOPIC:
        raise VerifyError(
            f"{topic}[{partition}]: the state follows on a snapshot of a topic that is gone; no fold can give it again"
        )
    if now.start[partition] > state.first_offset:
        raise VerifyError(
            f"{topic}[{partition}] begins at offset {now.start[partition]}, the state was folded from "
            f"{state.first_offset} on; what is gone cannot be folded again."
        )
    return state.next_offset
