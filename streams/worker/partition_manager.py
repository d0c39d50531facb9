"""The partitions this worker owns, each with a `PartitionTask`: a short queue, worked off in order.

While one task waits for Redis, another folds; so one worker keeps a core busy without any thread of its own.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Protocol

from core.kafka.offsets import TopicState
from streams.store.protocol import Claim, Outcome, Store, another_topic, offset_to_start_at
from streams.worker.transport import Run

log = logging.getLogger(__name__)

WAITING_RUNS = 1
"""Runs that wait for a task before fetching is held back."""
HELD_BYTES = 4 * 1024 * 1024
"""Of all records that the tasks hold, before fetching is held back.

In memory a record has four times its bytes while it waits, and ten times while it is folded. Without this bound every
task would hold two runs as soon as Redis is slower than Kafka, so that the memory would grow with the partitions and
with what else goes on.
"""


class Partition(Protocol):
    """A claimed partition: runs in, state in the store."""

    partition: int
    next_offset: int
    """Of the record that is folded next."""

    @property
    def checkpoint(self) -> int:
        """Of the record that whoever claims it next would begin with; at most `next_offset`."""

    async def process(self, records: Sequence[Any]) -> Outcome:
        """Fold a run. Once the outcome is FENCED or ROLLED_BACK, this object is of no more use."""

    async def write_checkpoint(self) -> Outcome:
        """Bring the checkpoint up to `next_offset`; outcomes as of `process`."""


OpenPartition = Callable[[int, Claim, int, Store], Awaitable[Partition]]
"""Of the partition's number, the claim, the offset to start at, and the store that was claimed in."""


class _Order(Enum):
    """What a task may be told between runs."""

    CLAIM_AGAIN = auto()
    CHECKPOINT = auto()


@dataclass(slots=True)
class PartitionTask:
    """A claimed partition with its short queue of runs, and the asyncio task that works the queue off."""

    claimed: Partition
    runs: asyncio.Queue[Run | _Order] = field(default_factory=lambda: asyncio.Queue(WAITING_RUNS))
    held_bytes: int = 0
    """Of the runs that were handed to it and that it is not done with."""
    doubtful_gap_at: int | None = None
    open: bool = True
    released: bool = False
    task: asyncio.Task[None] | None = None


class PartitionManager:
    """Claims partitions and feeds them.

    Parameters
    ----------
    topic : str
    store : Store
    open_partition : OpenPartition
    describe_topic : callable returning TopicState
    seek : callable of (partition, offset)
        Makes the consumer fetch from there.
    reclaim_after_s : float
        How long a fenced partition waits for the group's verdict before it is claimed again.
    rebuild_missing : bool
        Whether a partition whose state has vanished is folded again from the beginning.

    Attributes
    ----------
    failed : asyncio.Future
        Raises what ended a task; a worker that fails stops, and its supervisor starts another.
    claimed : bool
        Whether everything that the group has assigned is claimed, which may be nothing.
    """

    def __init__(
        self,
        topic: str,
        store: Store,
        open_partition: OpenPartition,
        describe_topic: Callable[[], Awaitable[TopicState]],
        seek: Callable[[int, int], Awaitable[None]],
        reclaim_after_s: float,
        *,
        rebuild_missing: bool = False,
    ) -> None:
        self._topic = topic
        self._store = store
        self._open_partition = open_partition
        self._describe_topic = describe_topic
        self._seek = seek
        self._reclaim_after_s = reclaim_after_s
        self._rebuild_missing = rebuild_missing
        self._owner = uuid.uuid4().hex
        self._topic_id: str | None = None
        self._claiming = asyncio.Lock()
        self._owned: dict[int, PartitionTask] = {}
        self._room = asyncio.Event()
        self.failed: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self.claimed = False

    async def claim(self, partitions: set[int]) -> Mapping[int, int]:
        """Drop what was owned, claim the partitions anew, and return where each goes on."""
        async with self._claiming:  # Faust may start on the next assignment before it is done with this one
            await self.release()
            offsets = await self._claim_all(partitions) if partitions else {}
            self.claimed = True
            return offsets

    async def release(self) -> None:
        """End all tasks. What they had under way is either in the store, with its checkpoint, or it is not."""
        self.claimed = False
        tasks, self._owned = list(self._owned.values()), {}
        running = [owned.task for owned in tasks if owned.task]
        for owned in tasks:
            owned.released = True
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for owned in tasks:
            self._empty(owned)

    async def watch_topic(self, read_topic_id: Callable[[], Awaitable[str | None]], every_s: float) -> None:
        """Look, again and again, whether the topic is still the one that was claimed.

        A consumer knows topics by name: where one was deleted and recreated between two fetches, and has grown past
        our offset already, nothing else would tell.

        Parameters
        ----------
        read_topic_id : callable
            Returns None where the brokers do not say.
        every_s : float

        Raises
        ------
        TopicMismatchError
            It is another topic.
        """
        while True:
            await asyncio.sleep(every_s)
            topic_id = await read_topic_id()
            if topic_id is not None and self._topic_id is not None and topic_id != self._topic_id:
                raise another_topic(self._topic, topic_id, self._topic_id)

    async def follow_namespace(self, read_store: Callable[[], Awaitable[Store | None]], every_s: float) -> None:
        """Look, again and again, whether another namespace is the live one, and go on in that.

        Each task finishes the run it has, then claims its partition in the new namespace, whose checkpoint says where
        to go on. So nothing is lost or folded twice there, and the old namespace stays as it was.

        Parameters
        ----------
        read_store : callable
            Returns the store of the live namespace where that is another one than before, else None.
        every_s : float
        """
        while True:
            await asyncio.sleep(every_s)
            store = await read_store()
            if store is not None:
                async with self._claiming:  # a claim under way is made in the former namespace; its tasks move too
                    self._store = store
                    tasks = list(self._owned.values())
                for owned in tasks:
                    await owned.runs.put(_Order.CLAIM_AGAIN)

    async def checkpoint_regularly(self, every_s: float) -> None:
        """Have all partitions bring their checkpoints up, again and again."""
        while True:
            await asyncio.sleep(every_s)
            for owned in list(self._owned.values()):
                if owned.open:
                    await owned.runs.put(_Order.CHECKPOINT)

    @property
    def held_bytes(self) -> int:
        """Of the records in all tasks, waiting or under way."""
        return sum(owned.held_bytes for owned in self._owned.values())

    async def submit(self, run: Run) -> None:
        """Hand a run to its task; waits while the task is full, or all tasks together hold `HELD_BYTES`.

        A run of a partition not owned is dropped. One that is larger than the bound is taken when nothing else is held.
        """
        size = run.size_bytes
        while (owned := self._owned.get(run.partition)) is not None and owned.open:
            held = self.held_bytes
            if not held or held + size <= HELD_BYTES:
                owned.held_bytes += size
                await owned.runs.put(run)
                return
            self._room.clear()
            await self._room.wait()

    def applied(self) -> Mapping[int, int]:
        """Return the checkpoint of each owned partition; from any thread."""
        return {partition: owned.claimed.checkpoint for partition, owned in self._owned.copy().items()}

    async def _claim_all(self, partitions: set[int]) -> dict[int, int]:
        state = await self._describe_topic()
        self._topic_id = state.topic_id
        claimed = await asyncio.gather(*(self._claim(partition, state) for partition in sorted(partitions)))
        for one in claimed:
            self._open_task(one)
        offsets = {one.partition: one.next_offset for one in claimed}
        log.info("claimed partitions at offsets %s", offsets)
        return offsets

    async def _claim(self, partition: int, state: TopicState) -> Partition:
        store = self._store  # another may become the live one while this one answers
        claim = await store.claim(partition, self._owner, state.topic_id)
        if claim.next_offset is not None and claim.next_offset > state.end[partition]:
            state = await self._describe_topic()  # it has grown since, and the worker before us was that fast
        start = offset_to_start_at(partition, claim, state, rebuild_missing=self._rebuild_missing)
        return await self._open_partition(partition, claim, start, store)

    def _open_task(self, claimed: Partition) -> None:
        owned = self._owned[claimed.partition] = PartitionTask(claimed)
        owned.task = asyncio.create_task(self._work(owned), name=f"partition-{claimed.partition}")
        owned.task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) and not self.failed.done():
            self.failed.set_exception(error)

    async def _work(self, owned: PartitionTask) -> None:
        while not owned.released:  # redis-py may swallow a cancellation that comes with a reply
            run = await owned.runs.get()
            if run is _Order.CLAIM_AGAIN:
                await self._claim_again(owned, "the namespace is another")
            elif run is _Order.CHECKPOINT:
                await self._go_on(owned, await owned.claimed.write_checkpoint())
            else:
                outcome = await owned.claimed.process(run.records) if await self._follows(owned, run) else None
                self._let_go(owned, run)  # first: to claim again may take a session timeout
                if outcome is not None:
                    await self._go_on(owned, outcome)

    async def _go_on(self, owned: PartitionTask, outcome: Outcome) -> None:
        if outcome.lost and not owned.released:
            # Fenced: another worker claimed it. If the group agrees, this task is cancelled while it waits.
            wait_s = self._reclaim_after_s if outcome is Outcome.FENCED else 0.0
            await self._claim_again(owned, outcome.name, wait_s)

    async def _follows(self, owned: PartitionTask, run: Run) -> bool:
        """Say whether a run may be processed, and seek back where it may not.

        A run that starts past the next offset is either left over from before a seek, or the records between do not
        exist any more (transaction markers, compaction). So the broker is asked again, once: what it says then holds.
        """
        first, expected = run.records[0].offset, owned.claimed.next_offset
        if first <= expected or first == owned.doubtful_gap_at:
            owned.doubtful_gap_at = None
            return True
        owned.doubtful_gap_at = first
        await self._seek(run.partition, expected)
        return False

    async def _claim_again(self, owned: PartitionTask, why: str, wait_s: float = 0.0) -> None:
        partition = owned.claimed.partition
        log.warning("claiming again: %s", why, extra={"partition": partition, "offset": owned.claimed.next_offset})
        owned.open = False  # what comes now is fetched again; the other tasks must not wait behind it
        self._empty(owned)
        await asyncio.sleep(wait_s)
        owned.claimed = await self._claim(partition, await self._describe_topic())
        owned.doubtful_gap_at = None
        owned.open = True
        await self._seek(partition, owned.claimed.next_offset)

    def _empty(self, owned: PartitionTask) -> None:
        """Drop the runs that wait, so that whoever waits to put one more goes on."""
        while not owned.runs.empty():
            if isinstance(run := owned.runs.get_nowait(), Run):
                self._let_go(owned, run)
        self._room.set()

    def _let_go(self, owned: PartitionTask, run: Run) -> None:
        owned.held_bytes -= run.size_bytes
        self._room.set()
