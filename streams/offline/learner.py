"""Models as the training topic alone gives them, learned with the learner's own code, in memory or into a store."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing

from schemas.codec import Codec
from streams.learner.counters import Counters
from streams.learner.partition import LEARNER, SNAPSHOTS, LearningPartition
from streams.learner.sources import LearningSources
from streams.offline.fold import SilentEmits
from streams.offline.partition_log import PartitionLog
from streams.store.memory import MemoryStore
from streams.store.protocol import Outcome


class OfflineLearner:
    """Learns from the topic's first record on.

    Attributes
    ----------
    counters : Counters
    """

    def __init__(self, sources: LearningSources, codec: Codec) -> None:
        self.counters = Counters()
        self._sources = sources
        self._codec = codec
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
        partition = LearningPartition(
            0,
            await self._store.claim(0, "offline", ""),
            0,
            self._store,
            sources.catalogue,
            sources.intake,
            SilentEmits(),
            self._codec.encode,
            self.counters,
        )
        await learn(partition, log, end, progress)


async def learn(
    partition: LearningPartition,
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
        As `LearningPartition.write`.
    """
    async with aclosing(log.read_ahead(end)) as batches:
        async for batch in batches:
            if (outcome := await partition.process(batch)).lost:
                return outcome
            progress(len(batch))
    return await partition.write()
