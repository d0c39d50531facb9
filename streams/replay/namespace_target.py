"""Folds into a namespace of its own, with the store, the claims and the fold that the worker uses."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Collection, Sequence

from streams.folds.partition import PROJECTIONS
from streams.folds.popularity import TrackRows
from streams.offline.fold import SilentEmits
from streams.offline.partition_log import LogRecord
from streams.offline.sources import Sources
from streams.replay.errors import ReplayError
from streams.store.keys import checkpoint_key
from streams.store.protocol import Outcome
from streams.store.redis_store import RedisStore
from streams.worker.broker import describe_topic, group_of
from streams.worker.emits import Emits
from streams.worker.partition import ClaimedPartition, Counters
from streams.worker.topic_state import offset_to_start_at


class NamespaceTarget:
    """Writes state. Delivery is exactly once: the checkpoint moves with the state, so a killed replay goes on there.

    Nothing is emitted unless it is asked for: the sessions and dead letters of these records were sent when they were
    first folded.

    Attributes
    ----------
    counters : Counters
        What was folded by this process.
    """

    def __init__(
        self,
        sources: Sources,
        namespace: str,
        projections: Collection[str] = PROJECTIONS,
        emits: Emits | None = None,
    ) -> None:
        self._sources = sources
        self._namespace = namespace
        self._projections = projections
        self._emits = emits or SilentEmits()
        self._store = RedisStore(sources.redis, namespace)
        self._owner = f"replay-{uuid.uuid4().hex}"
        self._claimed: dict[int, ClaimedPartition] = {}
        self.counters = Counters()
        self._rows: TrackRows = {}

    async def prepare(self, partition: int, start: int) -> None:
        """Make the partition begin at an offset; does nothing where it has begun."""
        if start > 0:
            key = checkpoint_key(self._namespace, partition)
            await self._sources.redis.hsetnx(key, "first_offset", start)
            await self._sources.redis.hsetnx(key, "next_offset", start)

    async def open(self, partition: int, start: int) -> int:
        """Claim the partition and return its checkpoint; see `Target.open`.

        Raises
        ------
        TopicMismatchError
            The namespace is of another topic, or records that it needs are gone.
        """
        if (known := self._claimed.get(partition)) is not None:
            return known.next_offset
        sources = self._sources
        claim = await self._store.claim(partition, self._owner, sources.state.topic_id)
        state = sources.state
        if claim.next_offset is not None and claim.next_offset > state.end[partition]:
            # the topic has grown since, and a worker was there first
            group = group_of(sources.settings)
            state = await asyncio.to_thread(describe_topic, sources.settings, sources.topic, group)
        begin = offset_to_start_at(sources.topic, partition, claim, state, rebuild_missing=True)
        claimed = ClaimedPartition(
            partition,
            claim,
            begin,
            self._store,
            sources.intake,
            self._emits,
            self.counters,
            self._projections,
            self._rows,
        )
        self._claimed[partition] = claimed
        return begin

    async def write(self, partition: int, records: Sequence[LogRecord]) -> None:
        """Fold the records; see `Target.write`.

        Raises
        ------
        ReplayError
            Somebody else writes the namespace, or Redis lost writes.
        """
        outcome = await self._claimed[partition].process(records)
        if outcome is Outcome.FENCED:
            raise ReplayError(
                f"another process has claimed partition {partition} of {self._namespace}; one at a time may write it"
            )
        if outcome is Outcome.ROLLED_BACK:
            raise ReplayError(
                f"Redis lost writes to partition {partition} of {self._namespace}; run it again, it goes on from there"
            )
