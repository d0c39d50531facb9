"""A partition's state as the topic alone gives it, folded in memory with the worker's own code."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from contextlib import aclosing

from streams.folds.partition import PROJECTIONS
from streams.offline.partition_log import LogRecord, PartitionLog
from streams.store.memory import MemoryStore
from streams.worker.emits import Emitted
from streams.worker.intake import Intake, Rejected
from streams.worker.partition import ClaimedPartition, Counters


class SilentEmits:
    """Sends nothing: what these records give rise to was sent when they were first folded."""

    async def emit(self, events: Sequence[Emitted], rejected: Sequence[Rejected]) -> None:
        """Do nothing."""


class OfflineFold:
    """Folds one partition from its first record into a `MemoryStore`.

    Attributes
    ----------
    store : MemoryStore
    counters : Counters
    """

    def __init__(self, partition: int, intake: Intake, projections: Collection[str] = PROJECTIONS) -> None:
        self.store = MemoryStore()
        self.counters = Counters()
        self._partition = partition
        self._intake = intake
        self._projections = projections
        self._claimed: ClaimedPartition | None = None

    async def advance(self, records: Sequence[LogRecord]) -> None:
        """Fold records that follow on those of the last call."""
        if self._claimed is None:
            claim = await self.store.claim(self._partition, "offline", "")
            self._claimed = ClaimedPartition(
                self._partition,
                claim,
                records[0].offset,
                self.store,
                self._intake,
                SilentEmits(),
                self.counters,
                self._projections,
            )
        await self._claimed.process(records)

    async def advance_to(self, log: PartitionLog, end: int) -> None:
        """Fold what the log has up to an offset (not included)."""
        async with aclosing(log.read_ahead(end)) as batches:
            async for batch in batches:
                await self.advance(batch)
