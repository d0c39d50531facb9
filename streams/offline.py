"""The folds without the loop: state and models as the topics alone give them, with the workers' own code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from core.kafka.offsets import TopicState, describe_topic
from core.kafka.reader import LogRecord, PartitionLog
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
from schemas.topics import Topics, worker_group_of
from schemas.validation import Intake, Rejected
from streams.folds.partition import PROJECTIONS
from streams.learner.app import LearnerSources
from streams.learner.metrics import LearnerCounters
from streams.learner.partition import LEARNER, SNAPSHOTS, LearnerPartition
from streams.store.connect import connect_async
from streams.store.protocol import MemoryStore, Outcome
from streams.worker.partition import WorkerCounters, WorkerPartition
from streams.worker.publisher import Publishable, Publisher


class NullPublisher:
    """Sends nothing: what these records give rise to was sent when they were first folded."""

    async def emit(self, events: Sequence[Publishable], rejected: Sequence[Rejected]) -> None:
        """Do nothing."""


class OfflineFold:
    """Folds one partition from its first record into a `MemoryStore`.

    Attributes
    ----------
    store : MemoryStore
    counters : WorkerCounters
    """

    def __init__(
        self,
        partition: int,
        intake: Intake,
        projections: Collection[str] = PROJECTIONS,
        publisher: Publisher | None = None,
        store: MemoryStore | None = None,
    ) -> None:
        self.store = MemoryStore() if store is None else store
        self.counters = WorkerCounters()
        self._publisher = NullPublisher() if publisher is None else publisher
        self._partition = partition
        self._intake = intake
        self._projections = projections
        self._claimed: WorkerPartition | None = None

    async def advance(self, records: Sequence[LogRecord]) -> None:
        """Fold records that follow on those of the last call."""
        if self._claimed is None:
            claim = await self.store.claim(self._partition, "offline", "")
            self._claimed = WorkerPartition(
                self._partition,
                claim,
                records[0].offset,
                self.store,
                self._intake,
                self._publisher,
                self.counters,
                self._projections,
            )
        await self._claimed.process(records)

    async def advance_to(self, log: PartitionLog, end: int) -> None:
        """Fold what the log has up to an offset (not included)."""
        async with aclosing(log.read_ahead(end)) as batches:
            async for batch in batches:
                await self.advance(batch)


class OfflineLearner:
    """Learns from the topic's first record on.

    Attributes
    ----------
    counters : LearnerCounters
    """

    def __init__(self, sources: LearnerSources) -> None:
        self.counters = LearnerCounters()
        self._sources = sources
        self._store = MemoryStore()

    @property
    def state(self) -> Mapping[bytes, bytes]:
        """What a learner would have written."""
        return self._store.hashes[0, LEARNER]

    @property
    def snapshots(self) -> Mapping[bytes, bytes]:
        """The last snapshot of each model, by its name."""
        return self._store.hashes[0, SNAPSHOTS]

    async def learn(self, log: PartitionLog, end: int, progress: Callable[[int], None] = lambda records: None) -> None:
        """Learn from what the log has up to an offset (not included), once.

        Parameters
        ----------
        progress : callable of int
            Told how many records have been learned from since it was last told.
        """
        sources = self._sources
        partition = LearnerPartition(
            0,
            await self._store.claim(0, "offline", ""),
            0,
            self._store,
            sources.catalogue,
            sources.intake,
            NullPublisher(),
            self.counters,
            sources.left_out,
        )
        await learn(partition, log, end, progress)


async def learn(
    partition: LearnerPartition,
    log: PartitionLog,
    end: int,
    progress: Callable[[int], None] = lambda records: None,
) -> Outcome:
    """Learn from what the log has up to an offset (not included), and write the state.

    Returns
    -------
    Outcome
        FENCED or ROLLED_BACK where somebody else has claimed the partition, or its state is of no use.

    Raises
    ------
    ClaimLostError
        As `LearnerPartition.write`.
    """
    async with aclosing(log.read_ahead(end)) as batches:
        async for batch in batches:
            if (outcome := await partition.process(batch)).lost:
                return outcome
            progress(len(batch))
    return await partition.write()


@dataclass(frozen=True, slots=True)
class ReplaySources:
    """Open connections, and the topic as it was when they were opened.

    Attributes
    ----------
    settings : Settings
    topic : str
        Name of the listens topic.
    state : TopicState
    intake : Intake
        Decides as the workers have decided: what is a dead letter stays out.
    excluded : mapping of partition to int
        How many listens operators have excluded, which the intake leaves out (`RejectedBefore.excluded`).
    redis : redis.asyncio.Redis or RedisCluster
    """

    settings: Settings
    topic: str
    state: TopicState
    intake: Intake
    excluded: Mapping[int, int]
    redis: Any


@asynccontextmanager
async def open_sources(settings: Settings) -> AsyncIterator[ReplaySources]:
    """Open them, and close them at the end.

    Raises
    ------
    TopicError
        The topic does not exist or no broker answers.
    """
    topic, codec = Topics.of(settings).listens.name, codec_of(settings)
    state = await asyncio.to_thread(describe_topic, settings, topic, worker_group_of(settings))
    catalogue, rejected = CatalogueReader(settings, codec), RejectedBefore(settings, topic)
    redis = connect_async(settings)
    try:
        await asyncio.to_thread(catalogue.refresh)
        await asyncio.to_thread(rejected.refresh)
        intake = Intake(codec, catalogue.tracks, catalogue.refresh, rejected.offsets)
        yield ReplaySources(settings, topic, state, intake, rejected.excluded, redis)
    finally:
        await redis.aclose()
        catalogue.close()
        rejected.close()
