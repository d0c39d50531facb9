"""The partitions that a worker owns, each with a `PartitionTask`: a short queue, processed in order.

While one task waits for Redis, another folds, so one worker uses a whole core without further threads.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from typing import Any, NamedTuple

from botify.core.kafka.admin import TopicState
from botify.core.kafka.record_columns import RecordColumns
from botify.core.process import gather_or_cancel
from botify.streams.store.protocol import Claim, Outcome, Store, another_topic, offset_to_start_at
from botify.streams.worker.partition import ClaimedPartition

log = logging.getLogger(__name__)

WAITING_BATCHES = 1  # runs that wait for a task before fetching is delayed
HELD_BYTES = 8 * 1024 * 1024
"""Bytes of all records in the tasks before fetching is delayed; as an object a record takes up to ten times as many.

Otherwise every task would hold two batches whenever Redis is slower than Kafka.
"""


class Batch(NamedTuple):
    """Records of one partition, in order, as one fetch returned them; none lies between `position` and the first."""

    partition: int
    records: Sequence[Any]
    position: int

    @property
    def size_bytes(self) -> int:
        """Bytes of the records' values; of columns, all bytes that they keep."""
        if isinstance(self.records, RecordColumns):
            return self.records.size_bytes
        return sum(len(record.value or b"") for record in self.records)

    def parts(self, most: int) -> Iterator[Batch]:
        """Yield the batch, in parts of at most `most` records if it is columns: to aiokafka a fetch of them is one."""
        if not isinstance(self.records, RecordColumns):
            yield self
            return
        position = self.position
        for records in self.records.parts(most):
            yield Batch(self.partition, records, position)
            position = records[-1].offset + 1


OpenPartition = Callable[[int, Claim, int, Store], Awaitable[ClaimedPartition]]
"""Called with the partition, the claim, the offset to start at, and the store of the claim."""


class _Order(Enum):
    CLAIM_AGAIN = auto()
    CHECKPOINT = auto()


@dataclass(slots=True)
class PartitionTask:
    """A claimed partition with its short queue of batches, and the asyncio task that processes it."""

    claimed: ClaimedPartition
    # not bounded itself, so that orders never wait; `PartitionManager.submit` waits before it adds a batch
    batches: asyncio.Queue[Batch | _Order] = field(default_factory=asyncio.Queue)
    waiting_batches: int = 0  # of `batches`; at most `WAITING_BATCHES`
    checkpoint_ordered: bool = False  # whether an order to checkpoint waits; there is no second one
    held_bytes: int = 0  # of submitted batches that are not processed yet
    open: bool = True
    task: asyncio.Task[None] | None = None


class PartitionManager:
    """Claims partitions and feeds them.

    `seek` makes the consumer fetch from (partition, offset). A fenced partition waits `reclaim_after_s` for the group's
    assignment before it is claimed again. `rebuild_missing` rebuilds partitions whose state has vanished. `failed`
    raises the error of a task; the worker then stops, and its supervisor starts another. `claimed` says whether all
    partitions that the group has assigned are claimed.
    """

    def __init__(
        self,
        store: Store,
        open_partition: OpenPartition,
        describe_topic: Callable[[], Awaitable[TopicState]],
        seek: Callable[[int, int], Awaitable[None]],
        reclaim_after_s: float,
        *,
        rebuild_missing: bool = False,
    ) -> None:
        self._store, self._owner = store, uuid.uuid4().hex
        self._open_partition, self._describe_topic, self._seek = open_partition, describe_topic, seek
        self._reclaim_after_s, self._rebuild_missing = reclaim_after_s, rebuild_missing
        self._topic: TopicState | None = None
        self._claiming = asyncio.Lock()
        self._owned: dict[int, PartitionTask] = {}
        self._room = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self.claimed = False

    async def claim(self, partitions: set[int]) -> Mapping[int, int]:
        """Release all partitions, claim these, and return the offset at which each continues."""
        async with self._claiming:  # Faust may begin the next assignment before it has finished this one
            await self.release()
            offsets = await self._claim_all(partitions) if partitions else {}
            self.claimed = True
            return offsets

    async def release(self) -> None:
        """End all tasks. A batch in progress is in the store with its checkpoint, or not at all."""
        self.claimed = False
        tasks, self._owned = list(self._owned.values()), {}
        for owned in tasks:  # before anything is awaited: Faust may cancel this, and `submit` would wait for ever
            if owned.task:
                owned.task.cancel()
            self._empty(owned)
        await asyncio.gather(*(owned.task for owned in tasks if owned.task), return_exceptions=True)

    async def watch_topic(self, read_topic_id: Callable[[], Awaitable[str | None]], every_s: float) -> None:
        """Check regularly that the topic is still the one that was claimed; raises `TopicMismatchError`.

        A consumer knows topics by name: it does not notice one that was recreated between two fetches and has grown
        past the offset. `read_topic_id` returns None if no broker answers.
        """
        while True:
            await asyncio.sleep(every_s)
            topic_id = await read_topic_id()
            if topic_id is not None and self._topic is not None and topic_id != self._topic.topic_id:
                raise another_topic(self._topic.topic, topic_id, self._topic.topic_id)

    async def follow_namespace(self, read_store: Callable[[], Awaitable[Store | None]], every_s: float) -> None:
        """Check regularly whether another namespace is live (its store, else None), and continue in it.

        Each task finishes its batch, then claims its partition in the new namespace and continues at its checkpoint. So
        nothing is lost or folded twice there, and the former namespace does not change.
        """
        while not _is_cancelled():
            await asyncio.sleep(every_s)
            store = await read_store()
            if store is not None:
                async with self._claiming:  # a claim in progress is in the former namespace; its tasks move too
                    self._store = store
                    tasks = list(self._owned.values())
                for owned in tasks:
                    owned.batches.put_nowait(_Order.CLAIM_AGAIN)

    async def checkpoint_regularly(self, every_s: float) -> None:
        while True:
            await asyncio.sleep(every_s)
            for owned in list(self._owned.values()):
                if owned.open and not owned.checkpoint_ordered:
                    owned.checkpoint_ordered = True
                    owned.batches.put_nowait(_Order.CHECKPOINT)

    @property
    def held_bytes(self) -> int:
        return sum(owned.held_bytes for owned in self._owned.values())

    async def submit(self, batch: Batch) -> None:
        """Put a batch into its task's queue; wait while that is full, or all tasks together hold `HELD_BYTES`.

        A batch of a partition not owned is dropped. A batch larger than the bound is accepted when no other is held.
        """
        size = batch.size_bytes
        while (owned := self._owned.get(batch.partition)) is not None and owned.open:
            held = self.held_bytes
            if owned.waiting_batches < WAITING_BATCHES and (not held or held + size <= HELD_BYTES):
                owned.held_bytes += size
                owned.waiting_batches += 1
                owned.batches.put_nowait(batch)
                return
            self._room.clear()
            await self._room.wait()

    def applied(self) -> Mapping[int, int]:
        """Return the checkpoint of each owned partition; from any thread."""
        return {partition: owned.claimed.checkpoint for partition, owned in self._owned.copy().items()}

    async def _claim_all(self, partitions: set[int]) -> dict[int, int]:
        self._topic = state = await self._describe_topic()
        # a claim that continued after another one has failed would fence the next owner
        claimed = await gather_or_cancel(self._claim(partition, state) for partition in sorted(partitions))
        for one in claimed:
            owned = self._owned[one.partition] = PartitionTask(one)
            owned.task = asyncio.create_task(self._work(owned), name=f"partition-{one.partition}")
            owned.task.add_done_callback(partial(self._on_task_done, owned))
        offsets = {one.partition: one.next_offset for one in claimed}
        log.info("claimed partitions at offsets %s", offsets, extra={"topic": state.topic})
        return offsets

    async def _claim(self, partition: int, state: TopicState) -> ClaimedPartition:
        store = self._store  # another may become live during the claim
        claim = await store.claim(partition, self._owner, state.topic_id)
        if claim.next_offset is not None and claim.next_offset > state.end[partition]:
            state = await self._describe_topic()  # it has grown since, and another worker has folded the new records
        start = offset_to_start_at(partition, claim, state, rebuild_missing=self._rebuild_missing)
        return await self._open_partition(partition, claim, start, store)

    def _on_task_done(self, owned: PartitionTask, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            error.add_note(f"in partition {owned.claimed.partition}, from offset {owned.claimed.next_offset} on")
            self.failed.set_exception(error)

    async def _work(self, owned: PartitionTask) -> None:
        while not _is_cancelled():
            batch = await owned.batches.get()
            if batch is _Order.CLAIM_AGAIN:
                await self._claim_again(owned, "another namespace is live")
            elif batch is _Order.CHECKPOINT:
                owned.checkpoint_ordered = False
                await self._continue(owned, await owned.claimed.write_checkpoint())
            else:
                owned.waiting_batches -= 1
                self._room.set()
                outcome = await owned.claimed.process(batch.records) if await self._follows(owned, batch) else None
                self._free(owned, batch)  # first: a new claim may take a session timeout
                if outcome is not None:
                    await self._continue(owned, outcome)

    async def _continue(self, owned: PartitionTask, outcome: Outcome) -> None:
        if outcome.lost and not _is_cancelled():
            # fenced: another worker claimed it; if the group has assigned it so, this task is cancelled while it waits
            wait_s = self._reclaim_after_s if outcome is Outcome.FENCED else 0.0
            await self._claim_again(owned, outcome.name, wait_s)

    async def _follows(self, owned: PartitionTask, batch: Batch) -> bool:
        """Say whether nothing is missing before the batch; if it was fetched before a seek, go back to what is."""
        if batch.position <= owned.claimed.next_offset:
            return True
        await self._seek(batch.partition, owned.claimed.next_offset)
        return False

    async def _claim_again(self, owned: PartitionTask, why: str, wait_s: float = 0.0) -> None:
        partition = owned.claimed.partition
        log.warning("claiming again: %s", why, extra={"partition": partition, "offset": owned.claimed.next_offset})
        owned.open = False  # later batches are fetched again; other tasks must not wait behind them
        self._empty(owned)
        await asyncio.sleep(wait_s)
        owned.claimed = await self._claim(partition, await self._describe_topic())
        owned.open = True
        await self._seek(partition, owned.claimed.next_offset)

    def _empty(self, owned: PartitionTask) -> None:
        while not owned.batches.empty():
            if isinstance(batch := owned.batches.get_nowait(), Batch):
                owned.waiting_batches -= 1
                self._free(owned, batch)
        owned.checkpoint_ordered = False
        self._room.set()

    def _free(self, owned: PartitionTask, batch: Batch) -> None:
        owned.held_bytes -= batch.size_bytes
        self._room.set()


def _is_cancelled() -> bool:
    """Say whether the current task was cancelled; redis-py may swallow a cancellation that arrives with a reply."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
