"""Simulated workers and learners: the shipped partition manager and partitions, and what feeds them."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

from botify.schemas.validation import Intake
from botify.streams.folds.popularity import TrackRows
from botify.streams.learner.partition import LearnerPartition
from botify.streams.store.protocol import Claim, Store
from botify.streams.worker.folding import Folding
from botify.streams.worker.metrics import LearnerCounters, WorkerCounters
from botify.streams.worker.partition import ClaimedPartition, KafkaPublisher, WorkerPartition
from botify.streams.worker.partition_manager import Batch, PartitionManager
from tests.simulation.group import HEARTBEAT_S, SESSION_TIMEOUT_S, Group
from tests.simulation.history import History
from tests.simulation.kafka import SETTINGS
from tests.simulation.learner import CATALOGUE
from tests.simulation.loop import Nap, Process
from tests.simulation.topic import CODEC, LEAD, TRACKS

COMMIT_S = 4.0
CHECKPOINT_S = 1.0
THREAD_POLL_S = 0.1
TOPIC_CHECK_S = 20.0
STALE = 0.5
"""Share of the runs in flight that arrive although a seek has made them stale."""
CANCELLED = 0.5
"""Share of the claims in progress that the next rebalance cancels, as Faust does; the others end beside the next."""
AGAIN, AGAIN_S = 0.25, 0.5
"""Share of the rebalances that are followed by another one at once, and how much later at most."""


class StoreClient(Protocol):
    def store(self, namespace: str) -> Store: ...
    async def live_namespace(self) -> str: ...
    async def close(self) -> None: ...


class SimulatedApp(ABC):
    """One incarnation of a process that folds a topic, as `botify.streams.worker.faust_app.FoldingApp` is one."""

    checkpoint_s: float | None = None

    def __init__(self, process: Process, group: Group, client: StoreClient, history: History) -> None:
        self.name = process.name
        self._process = process
        self.stopping = asyncio.Event()
        self._group = group
        self._client = client
        self._history = history
        self._generation = -1
        self._claimed_in = -1
        self._assigned: frozenset[int] = frozenset()
        self._positions: dict[int, int] = {}
        self._fetched: asyncio.Queue[Batch] = asyncio.Queue(1)
        self._claims: list[asyncio.Task[None]] = []
        self._nap = Nap()
        self._namespace = ""

    @abstractmethod
    async def _open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> ClaimedPartition:
        """Return a claimed partition."""

    async def run(self) -> BaseException | None:
        self._namespace = await self._client.live_namespace()
        self._publisher = KafkaPublisher(SETTINGS, CODEC)
        self._manager = manager = PartitionManager(
            store=self._client.store(self._namespace),
            open_partition=self._open_partition,
            describe_topic=lambda: asyncio.to_thread(self._group.describe),
            seek=self._seek,
            reclaim_after_s=SESSION_TIMEOUT_S,
            rebuild_missing=True,
        )
        check_s = self._group.kafka.timeline.check_s
        bodies: list[Callable[[], Awaitable[object]]] = [
            self._follow_group,
            self._fetch,
            self._submit,
            self._commit,
            self.stopping.wait,
            lambda: manager.failed,
            lambda: manager.follow_namespace(self._another_store, check_s),
            lambda: manager.watch_topic(
                lambda: asyncio.to_thread(lambda: self._group.topic_id), max(2 * check_s, TOPIC_CHECK_S)
            ),
        ]
        if (every_s := self.checkpoint_s) is not None:
            bodies.append(lambda: manager.checkpoint_regularly(every_s))
        tasks = [asyncio.ensure_future(_awaited(body)) for body in bodies]
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done, _ = await asyncio.wait([*tasks, self._failed], return_when=asyncio.FIRST_COMPLETED)
        for task in (*tasks, *self._claims):
            task.cancel()
        await asyncio.gather(*tasks, *self._claims, return_exceptions=True)
        await manager.release()
        await self._close_publisher()
        self._failed.cancel()
        await self._group.leave(self.name)
        await self._client.close()
        errors = [error for one in [*tasks, self._failed] if one in done and (error := one.exception())]
        return errors[0] if errors else None

    async def _close_publisher(self) -> None:
        """Close it, and wait for the end of its thread's job, as `ThreadPoolExecutor.shutdown` does."""
        self._publisher.close()
        while any(task.get_name() == "publisher" for task in self._process.unfinished):
            await asyncio.sleep(THREAD_POLL_S)

    async def _another_store(self) -> Store | None:
        live = await self._client.live_namespace()
        if live == self._namespace:
            return None
        self._history.note(self.name, f"follows namespace {live}")
        self._namespace = live
        return self._client.store(live)

    async def _seek(self, partition: int, offset: int) -> None:
        await asyncio.sleep(0)
        if partition in self._assigned:
            self._history.note(self.name, f"{self._group.topic}[{partition}] seek {offset}")
            self._positions[partition] = offset
            self._nap.wake()

    async def _follow_group(self) -> None:
        while True:
            generation, assigned = await self._group.heartbeat(self.name)
            if generation != self._generation:
                self._generation, self._assigned = generation, assigned
                self._begin_claim(generation)
                if (rng := self._group.again) is not None and rng.random() < AGAIN:
                    await asyncio.sleep(rng.choice([0.0, rng.uniform(0.0, AGAIN_S)]))
                    self._begin_claim(generation)
            await self._group.kafka.pause(HEARTBEAT_S)

    def _begin_claim(self, generation: int) -> None:
        for claim in self._claims:
            if (rng := self._group.again) is not None and rng.random() < CANCELLED:
                claim.cancel()
        self._positions = {}  # until they are claimed
        task = asyncio.ensure_future(self._claim(generation))
        self._claims.append(task)
        task.add_done_callback(self._on_claimed)

    async def _claim(self, generation: int) -> None:
        """Claim the assignment, as `BatchConsumer.seek_to_committed` does, unless the next rebalance has begun."""
        if generation == self._generation:
            offsets = await self._manager.claim(set(self._assigned))
            for partition, offset in offsets.items():
                await self._seek(partition, offset)
            self._claimed_in = generation

    def _on_claimed(self, task: asyncio.Task[None]) -> None:
        self._claims.remove(task)
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)

    async def _fetch(self) -> None:
        while True:
            positions = dict(self._positions)
            for partition, records in (await self._group.fetch(positions, self._nap.sleep)).items():
                if self._positions.get(partition) == positions[partition]:
                    self._positions[partition] = records[-1].offset + 1
                elif self._group.rng.random() >= STALE:
                    continue
                await self._fetched.put(Batch(partition, records, positions[partition]))

    async def _submit(self) -> None:
        while True:
            await self._manager.submit(await self._fetched.get())

    async def _commit(self) -> None:
        committed: tuple[int, Mapping[int, int]] = (-1, {})
        while True:
            await self._group.kafka.pause(COMMIT_S)
            new = self._generation, self._manager.applied()
            if self._claimed_in == self._generation and new != committed:
                await self._group.commit(self.name, *new)
                committed = new


async def _awaited(body: Callable[[], Awaitable[object]]) -> None:
    await body()


class SimulatedWorker(SimulatedApp):
    def __init__(
        self,
        process: Process,
        group: Group,
        client: StoreClient,
        history: History,
        folding: Callable[[], Folding],
        *,
        training: bool,
    ) -> None:
        super().__init__(process, group, client, history)
        self._folding = folding
        self._training = training
        self._counters = WorkerCounters()

    async def _open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        intake = Intake(CODEC, TRACKS, lead=LEAD)
        return WorkerPartition(
            partition,
            claim,
            start,
            store,
            intake,
            self._publisher,
            self._counters,
            rows=TrackRows(),
            training=self._training,
            folding=self._folding,
        )


class SimulatedLearner(SimulatedApp):
    checkpoint_s = CHECKPOINT_S

    def __init__(
        self, process: Process, group: Group, client: StoreClient, history: History, every: int | None, room_bytes: int
    ) -> None:
        super().__init__(process, group, client, history)
        self._every = every
        self._room_bytes = room_bytes

    async def _open_partition(self, partition: int, claim: Claim, start: int, store: Store) -> LearnerPartition:
        await self._publisher.begin_models()
        intake = Intake(CODEC, CATALOGUE)
        return LearnerPartition(
            partition,
            claim,
            start,
            store,
            intake,
            self._publisher,
            LearnerCounters(),
            CATALOGUE,
            snapshot_listens=self._every,
            most_bytes=self._room_bytes,
        )
