"""Invariant: whatever the broker sends and the store says, each record is folded once, in order."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Any

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
        self.outcomes: list[Outcome] = []
        self.claims: list[tuple[int, int | None]] = []
        self.hold = asyncio.Event()
        self.hold.set()

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        claim = await super().claim(partition, owner, topic_id)
        self.claims.append((partition, claim.next_offset))
        return claim

    async def apply(self, *args: Any) -> Outcome:
        await self.hold.wait()
        return self.outcomes.pop(0) if self.outcomes else await super().apply(*args)


class Harness:
    """Partitions over a scripted store, and a note of every seek."""

    def __init__(self, reclaim_after_s: float) -> None:
        self.store = ScriptedStore()
        self.seeks: list[tuple[int, int]] = []
        self.counters = WorkerCounters()
        self.topic = TopicState("botify.listens", "t", {0: 0, 1: 0}, {0: 1000, 1: 1000})
        self.owned = PartitionManager(self.store, self._open, self._describe, self._seek, reclaim_after_s)

    async def _open(self, partition: int, claim: Claim, start: int, store: Store) -> WorkerPartition:
        intake = Intake(CODEC, {7}, lambda: None)
        return WorkerPartition(partition, claim, start, store, intake, NullPublisher(), self.counters)

    async def _describe(self) -> TopicState:
        return self.topic

    async def _seek(self, partition: int, offset: int) -> None:
        self.seeks.append((partition, offset))

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.sleep(0.001)

    async def folded(self, checkpoint: int, partition: int = 0) -> None:
        await self.until(lambda: self.owned.applied()[partition] == checkpoint)

    async def waits(self, batch: Batch) -> asyncio.Task[None]:
        """Submit a batch that there is no room for."""
        waiting = asyncio.create_task(self.owned.submit(batch))
        await asyncio.sleep(0)
        assert not waiting.done()
        return waiting

    def listens(self) -> int:
        raw = self.store.hashes[0, USERS].get(b"42")
        return UserState.from_bytes(raw).listens if raw else 0


@asynccontextmanager
async def partitions(*claimed: int, reclaim_after_s: float = RECLAIM_AFTER_S) -> AsyncIterator[Harness]:
    """Yield a harness that has claimed these partitions; they are released at the end."""
    harness = Harness(reclaim_after_s)
    try:
        async with asyncio.timeout(10):
            await harness.owned.claim({*claimed})
            yield harness
    finally:
        harness.store.hold.set()
        await harness.owned.release()


async def test_a_gap_of_the_topic_is_passed_and_one_of_a_seek_is_not() -> None:
    """However often what was fetched before a seek arrives: two seeks to one offset fetch it twice."""
    async with partitions(0) as h:
        for at in (1, 2):
            await h.owned.submit(run_of(5, 6))
            await h.until(lambda at=at: len(h.seeks) == at)
        assert h.listens() == 0
        await h.owned.submit(run_of(5, 6, position=0))
        await h.folded(7)
        assert (h.seeks, h.listens()) == ([(0, 0)] * 2, 2)


async def test_a_fenced_lane_waits_for_the_group_then_claims_again_and_seeks() -> None:
    async with partitions(0, 1) as h:
        h.store.outcomes = [Outcome.FENCED]
        started = asyncio.get_running_loop().time()
        h.store.hold.clear()
        await h.owned.submit(run_of(0, 1))
        await h.owned.submit(run_of(2))  # waits behind it, is dropped with the claim, and then takes no room
        h.store.hold.set()
        await h.until(lambda: h.seeks)
        assert h.owned.held_bytes == 0
        assert asyncio.get_running_loop().time() - started >= RECLAIM_AFTER_S
        assert h.store.claims == [(0, None), (1, None), (0, None)]
        assert h.seeks == [(0, 0)]
        await h.owned.submit(run_of(0, 1))
        await h.folded(2)
        assert (h.listens(), h.counters.fenced) == (2, 1)


def large_run(offset: int, partition: int, size_bytes: int = HELD_BYTES) -> Batch:
    return Batch(partition, [record(offset, raw=b"x" * size_bytes)._replace(partition=partition)], offset)


MANY_RUNS = [run for at in range(WAITING_BATCHES * 3) for run in (run_of(at + 1), run_of(at, partition=1))]


@pytest.mark.parametrize(
    ("fenced", "later"),
    [
        pytest.param(run_of(0), MANY_RUNS, id="its runs are dropped"),
        pytest.param(large_run(0, 0), [large_run(0, 1)], id="what it had makes room"),
    ],
)
async def test_other_lanes_go_on_while_a_fenced_one_waits(fenced: Batch, later: list[Batch]) -> None:
    async with partitions(0, 1, reclaim_after_s=3600) as h:
        h.store.outcomes = [Outcome.FENCED]
        await h.owned.submit(fenced)
        await h.until(lambda: h.counters.fenced)
        for run in later:
            await h.owned.submit(run)
        await h.folded(later[-1].records[-1].offset + 1, partition=1)


@pytest.mark.parametrize(
    "runs",
    [
        pytest.param([run_of(at) for at in range(WAITING_BATCHES + 2)], id="a place in the queue"),
        pytest.param([large_run(0, 0), large_run(0, 1)], id="room in memory"),
    ],
)
async def test_releasing_ends_the_lanes_without_failing_and_lets_go_of_who_waits(runs: list[Batch]) -> None:
    async with partitions(0, 1) as h:
        h.store.hold.clear()
        for run in runs[:-1]:
            await h.owned.submit(run)
        waiting = await h.waits(runs[-1])
        await h.owned.release()
        await waiting
        assert (h.owned.applied(), h.owned.held_bytes) == ({}, 0)
        assert not h.owned.failed.done()
        assert h.listens() == 0


async def test_a_claim_that_is_cancelled_while_tasks_end_lets_go_of_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ends_slowly(*_: object) -> Outcome:
        try:
            return await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0.01)

    async with partitions(0) as h:
        monkeypatch.setattr(h.store, "apply", ends_slowly)
        for offset in range(WAITING_BATCHES + 1):
            await h.owned.submit(run_of(offset))
        waiting = await h.waits(run_of(WAITING_BATCHES + 1))
        claim = asyncio.create_task(h.owned.claim({0}))
        await asyncio.sleep(0.001)
        claim.cancel()
        await asyncio.gather(claim, return_exceptions=True)
        monkeypatch.undo()
        await h.owned.claim({0})
        await waiting
        await h.owned.submit(run_of(0))
        await h.folded(1)


async def test_lanes_together_hold_a_bounded_number_of_bytes_while_the_store_is_slow() -> None:
    """However many partitions there are: what waits for Redis is what a worker's memory grows by."""
    async with partitions() as h:
        h.topic = TopicState("botify.listens", "t", dict.fromkeys(range(8), 0), dict.fromkeys(range(8), 1000))
        await h.owned.claim({*range(8)})
        h.store.hold.clear()
        accepted: list[Batch] = []

        async def submit_all() -> None:
            for offset, partition in product(range(2), range(8)):
                run = large_run(offset, partition, HELD_BYTES // 4)
                await h.owned.submit(run)
                accepted.append(run)

        submitting = asyncio.create_task(submit_all())
        await h.until(lambda: len(accepted) == 4)
        for _ in range(100):  # every task gets its turns
            await asyncio.sleep(0)
        assert sum(len(run.records[0].value) for run in accepted) == HELD_BYTES
        h.store.hold.set()
        await submitting
        for partition in range(8):
            await h.folded(2, partition)
        assert h.owned.held_bytes == 0


def test_columns_are_taken_in_parts_however_well_a_fetch_compresses() -> None:
    columns = RecordColumns.of([record(at) for at in (1, 2, 3, 5, 6)])
    parts = [
        (part.partition, [one.offset for one in part.records], part.position) for part in Batch(3, columns, 0).parts(2)
    ]
    assert parts == [(3, [1, 2], 0), (3, [3, 5], 3), (3, [6], 6)]
    assert [part.records for part in Batch(3, columns, 0).parts(5)] == [columns]


async def test_a_run_larger_than_the_bound_is_taken_alone() -> None:
    async with partitions(0, 1) as h:
        await h.owned.submit(large_run(0, 0, HELD_BYTES + 1))
        await h.owned.submit(large_run(0, 1, HELD_BYTES + 1))
        await h.folded(1)
        await h.folded(1, partition=1)


async def test_a_topic_that_changes_under_the_worker_is_noticed() -> None:
    told: Iterator[str | None] = iter(["t", None, "another"])

    async def read_topic_id() -> str | None:
        return next(told)

    async with partitions(0) as h:
        with pytest.raises(TopicMismatchError, match="deleted and recreated"):
            await h.owned.watch_topic(read_topic_id, 0.001)


async def test_a_claim_in_progress_moves_to_the_new_namespace() -> None:
    new, announced, answered = ScriptedStore(), list[Store](), asyncio.Event()
    await new.apply(0, await new.claim(0, "replay", "t"), None, 3, Changes())

    async def look() -> Store | None:
        return announced.pop() if announced else None

    async with partitions() as h:
        claim = h.store.claim

        async def slow(partition: int, owner: str, topic_id: str) -> Claim:
            await answered.wait()
            return await claim(partition, owner, topic_id)

        h.store.claim = slow  # type: ignore[method-assign]
        following = asyncio.create_task(h.owned.follow_namespace(look, 0.001))
        claiming = asyncio.create_task(h.owned.claim({0}))
        await asyncio.sleep(0.005)  # it waits for the store by now
        announced.append(new)
        await h.until(lambda: not announced)
        answered.set()
        await claiming
        await h.owned.submit(run_of(0))
        await h.until(lambda: new.claims[1:] == [(0, 3)])
        await h.folded(3)
        following.cancel()
