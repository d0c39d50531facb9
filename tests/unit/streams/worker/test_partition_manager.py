"""Invariant: whatever the broker sends and the store says, each record is folded once, in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from botify.core.kafka.admin import TopicState
from botify.core.kafka.record_columns import RecordColumns
from botify.schemas.validation import Intake
from botify.streams.folds.projection import Changes
from botify.streams.folds.users import USERS, UserState
from botify.streams.store.protocol import Claim, MemoryStore, Outcome, Store, TopicMismatchError
from botify.streams.worker.metrics import WorkerCounters
from botify.streams.worker.partition import NullPublisher, WorkerPartition
from botify.streams.worker.partition_manager import HELD_BYTES, WAITING_BATCHES, Batch, PartitionManager
from tests.unit.streams.worker.records import CODEC, record, run_of

RECLAIM_AFTER_S = 0.05


class ScriptedStore(MemoryStore):
    """A store whose next applies come out as told."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: list[Outcome | Exception] = []
        self.claims: list[tuple[int, int | None]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        claim = await super().claim(partition, owner, topic_id)
        self.claims.append((partition, claim.next_offset))
        return claim

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        await self.hold.wait()
        if self.outcomes:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome
        return await super().apply(partition, claim, expected_next, new_next, changes)


class Harness:
    """Partitions over a scripted store, and a note of every seek."""

    def __init__(self, reclaim_after_s: float) -> None:
        self.store = ScriptedStore()
        self.seeks: list[tuple[int, int]] = []
        self.counters = WorkerCounters()
        self.topic = TopicState("botify.listens", "t", {0: 0, 1: 0}, {0: 1000, 1: 1000})
        self.owned = PartitionManager(
            store=self.store,
            open_partition=self._open,
            describe_topic=self._describe,
            seek=self._seek,
            reclaim_after_s=reclaim_after_s,
        )

    async def _open(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        intake = Intake(CODEC, {7}, lambda: None)
        return WorkerPartition(partition, claim, start, store, intake, NullPublisher(), self.counters)

    async def _describe(self) -> TopicState:
        return self.topic

    async def _seek(self, partition: int, offset: int) -> None:
        self.seeks.append((partition, offset))

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                await asyncio.sleep(0.001)

    async def folded(self, checkpoint: int, partition: int = 0) -> None:
        await self.until(lambda: self.owned.applied()[partition] == checkpoint)

    def listens(self, partition: int = 0) -> int:
        raw = self.store.hashes[partition, USERS].get(b"42")
        return UserState.from_bytes(raw).listens if raw else 0


def scenario(
    reclaim_after_s: float = RECLAIM_AFTER_S,
) -> Callable[[Callable[[Harness], Awaitable[None]]], Callable[[], None]]:
    """Make a test of a coroutine: it runs with a harness, whose partitions are released at the end."""

    def decorate(play: Callable[[Harness], Awaitable[None]]) -> Callable[[], None]:
        async def main() -> None:
            harness = Harness(reclaim_after_s)
            try:
                await play(harness)
            finally:
                harness.store.hold.set()
                await harness.owned.release()

        return lambda: asyncio.run(main())

    return decorate


@scenario()
async def test_a_gap_is_asked_about_once_and_then_believed(h: Harness) -> None:
    await h.owned.claim({0})
    await h.owned.submit(run_of(5, 6))
    await h.until(lambda: h.seeks)
    assert h.seeks == [(0, 0)]
    assert h.listens() == 0
    await h.owned.submit(run_of(5, 6))
    await h.folded(7)
    assert (h.seeks, h.listens()) == ([(0, 0)], 2)


@scenario()
async def test_a_fenced_lane_waits_for_the_group_then_claims_again_and_seeks(h: Harness) -> None:
    await h.owned.claim({0, 1})
    h.store.outcomes = [Outcome.FENCED]
    started = asyncio.get_running_loop().time()
    await h.owned.submit(run_of(0, 1))
    await h.until(lambda: h.seeks)
    assert asyncio.get_running_loop().time() - started >= RECLAIM_AFTER_S
    assert h.store.claims == [(0, None), (1, None), (0, None)]
    assert h.seeks == [(0, 0)]
    await h.owned.submit(run_of(0, 1))
    await h.folded(2)
    assert (h.listens(), h.counters.fenced) == (2, 1)


@scenario(reclaim_after_s=3600)
async def test_other_lanes_go_on_while_one_waits(h: Harness) -> None:
    await h.owned.claim({0, 1})
    h.store.outcomes = [Outcome.FENCED]
    await h.owned.submit(run_of(0))
    await h.until(lambda: h.counters.fenced)
    async with asyncio.timeout(5):
        for offset in range(WAITING_BATCHES * 3):
            await h.owned.submit(run_of(offset + 1))
            await h.owned.submit(run_of(offset, partition=1))
    await h.folded(WAITING_BATCHES * 3, partition=1)


@scenario()
async def test_releasing_ends_the_lanes_without_failing_and_lets_go_of_who_waits(h: Harness) -> None:
    await h.owned.claim({0})
    h.store.hold.clear()
    for offset in range(WAITING_BATCHES + 1):
        await h.owned.submit(run_of(offset))
    waiting = asyncio.create_task(h.owned.submit(run_of(WAITING_BATCHES + 1)))
    await asyncio.sleep(0)
    assert not waiting.done()
    await h.owned.release()
    async with asyncio.timeout(5):
        await waiting
    assert h.owned.applied() == {}
    assert not h.owned.failed.done()
    assert h.listens() == 0


@scenario()
async def test_a_claim_that_is_cancelled_while_tasks_end_lets_go_of_who_waits(h: Harness) -> None:
    async def ends_slowly(*_: object) -> Outcome:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)

    await h.owned.claim({0})
    shipped, h.store.apply = h.store.apply, ends_slowly  # type: ignore[method-assign]
    for offset in range(WAITING_BATCHES + 1):
        await h.owned.submit(run_of(offset))
    waiting = asyncio.create_task(h.owned.submit(run_of(WAITING_BATCHES + 1)))
    claim = asyncio.create_task(h.owned.claim({0}))
    await asyncio.sleep(0.001)
    claim.cancel()
    await asyncio.gather(claim, return_exceptions=True)
    h.store.apply = shipped  # type: ignore[method-assign]
    await h.owned.claim({0})
    async with asyncio.timeout(5):
        await waiting
    await h.owned.submit(run_of(0))
    await h.folded(1)


def large_run(offset: int, partition: int, size_bytes: int = HELD_BYTES // 4) -> Batch:
    return Batch(partition, [record(offset, raw=b"x" * size_bytes)._replace(partition=partition)])


@scenario()
async def test_lanes_together_hold_a_bounded_number_of_bytes_while_the_store_is_slow(h: Harness) -> None:
    """However many partitions there are: what waits for Redis is what a worker's memory grows by."""
    partitions = range(8)
    h.topic = TopicState("botify.listens", "t", dict.fromkeys(partitions, 0), dict.fromkeys(partitions, 1000))
    await h.owned.claim(set(partitions))
    h.store.hold.clear()
    accepted: list[Batch] = []

    async def submit_all() -> None:
        for offset in range(2):
            for partition in partitions:
                run = large_run(offset, partition)
                await h.owned.submit(run)
                accepted.append(run)

    submitting = asyncio.create_task(submit_all())
    await h.until(lambda: len(accepted) == 4)
    for _ in range(100):  # every task gets its turns
        await asyncio.sleep(0)
    assert sum(len(run.records[0].value) for run in accepted) == HELD_BYTES
    h.store.hold.set()
    async with asyncio.timeout(5):
        await submitting
    for partition in partitions:
        await h.folded(2, partition)
    assert h.owned.held_bytes == 0


def test_columns_are_taken_in_parts_however_well_a_fetch_compresses() -> None:
    columns = RecordColumns.of([record(at) for at in range(5)])
    parts = list(Batch(3, columns).parts(2))
    assert [(part.partition, [one.offset for one in part.records]) for part in parts] == [
        (3, [0, 1]),
        (3, [2, 3]),
        (3, [4]),
    ]
    assert [part.records for part in Batch(3, columns).parts(5)] == [columns]


@scenario()
async def test_a_run_larger_than_the_bound_is_taken_alone(h: Harness) -> None:
    await h.owned.claim({0, 1})
    async with asyncio.timeout(5):
        await h.owned.submit(large_run(0, 0, HELD_BYTES + 1))
        await h.owned.submit(large_run(0, 1, HELD_BYTES + 1))
    await h.folded(1)
    await h.folded(1, partition=1)


@scenario(reclaim_after_s=3600)
async def test_what_a_fenced_lane_had_makes_room_for_the_others_while_it_waits(h: Harness) -> None:
    await h.owned.claim({0, 1})
    h.store.outcomes = [Outcome.FENCED]
    await h.owned.submit(large_run(0, 0, HELD_BYTES))
    await h.until(lambda: h.counters.fenced)
    async with asyncio.timeout(5):
        await h.owned.submit(large_run(0, 1, HELD_BYTES))
    await h.folded(1, partition=1)


@scenario()
async def test_releasing_lets_go_of_who_waits_for_room(h: Harness) -> None:
    await h.owned.claim({0, 1})
    h.store.hold.clear()
    await h.owned.submit(large_run(0, 0, HELD_BYTES))
    waiting = asyncio.create_task(h.owned.submit(large_run(0, 1, HELD_BYTES)))
    await asyncio.sleep(0)
    await h.owned.release()
    async with asyncio.timeout(5):
        await waiting
    assert h.owned.held_bytes == 0


@scenario()
async def test_a_topic_that_changes_under_the_worker_is_noticed(h: Harness) -> None:
    await h.owned.claim({0})
    told: Iterator[str | None] = iter(["t", None, "another"])

    async def read_topic_id() -> str | None:
        return next(told)

    with pytest.raises(TopicMismatchError, match="deleted and recreated"):
        await h.owned.watch_topic(read_topic_id, 0.001)


class Swap:
    """Announces a store once, whose partitions are at these checkpoints, and follows to it."""

    def __init__(self) -> None:
        self.store: Store | None = None

    async def look(self) -> Store | None:
        store, self.store = self.store, None
        return store

    async def to(self, *checkpoints: int) -> ScriptedStore:
        store = ScriptedStore()
        for partition, offset in enumerate(checkpoints):
            claim = await store.claim(partition, "replay", "t")
            await store.apply(partition, claim, None, offset, Changes())
        store.claims.clear()
        self.store = store
        return store


@scenario()
async def test_a_claim_in_progress_moves_to_the_new_namespace(h: Harness) -> None:
    swap, answered, claim = Swap(), asyncio.Event(), h.store.claim
    following = asyncio.create_task(h.owned.follow_namespace(swap.look, 0.001))

    async def slow(partition: int, owner: str, topic_id: str) -> Claim:
        await answered.wait()
        return await claim(partition, owner, topic_id)

    h.store.claim = slow  # type: ignore[method-assign]
    claiming = asyncio.create_task(h.owned.claim({0}))
    await asyncio.sleep(0.005)  # it waits for the store by now
    new = await swap.to(3, 0)
    await h.until(lambda: swap.store is None)
    answered.set()
    await claiming
    await h.owned.submit(run_of(0))
    await h.until(lambda: new.claims == [(0, 3)])
    await h.until(lambda: h.owned.applied()[0] == 3)
    following.cancel()
