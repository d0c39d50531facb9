"""What `streams/worker` relies on in Faust and aiokafka. An upgrade that breaks it fails here first."""

import asyncio
import inspect
import re
import time
from importlib.metadata import requires, version
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, MagicMock, Mock

import pytest
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.tables.manager import TableManager
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from botify.core.kafka.column_fetch import ColumnRecords, KeptRecords, ObjectRecords, PositionedResult, as_batch
from botify.streams.worker.faust_app import BoundedWorker
from botify.streams.worker.transport import (
    ENOUGH_BYTES,
    MOST_GATHER_MS,
    BatchConsumer,
    BatchScheduler,
    BatchSchema,
    ClaimingThread,
    NoTables,
)
from tests.unit.core.kafka.test_record_columns import batch, told


@pytest.mark.parametrize(("package", "tested"), [("faust-streaming", "0.15.3"), ("aiokafka", "0.14.0")])
def test_the_versions_are_those_that_were_tested_and_pinned(package: str, tested: str) -> None:
    assert version(package) == tested
    pinned = re.compile(rf"{package}(\[[\w,]+\])?=={tested}")
    assert any(map(pinned.fullmatch, requires("botify-streams") or []))


OWN = {"__init__", "_claim_and_seek", "seek_back"}  # methods that Faust does not have, or with other arguments


@pytest.mark.parametrize("ours", [BatchConsumer, BatchScheduler, BatchSchema, BoundedWorker, ClaimingThread, NoTables])
def test_what_is_overridden_is_there_with_the_signature_of_fausts(ours: type) -> None:
    def form(method: Any) -> tuple[list[str], bool]:
        return list(inspect.signature(method).parameters), inspect.iscoroutinefunction(method)

    for name, method in vars(ours).items():
        if inspect.isfunction(method) and name not in OWN:
            theirs = [getattr(parent, name) for parent in ours.__mro__[1:] if hasattr(parent, name)]
            assert theirs, f"{ours.__name__}.{name} overrides nothing"
            assert form(method) == form(theirs[0]) or name.startswith("loads_"), name


def test_a_run_is_handed_out_whole() -> None:
    records = {TP("t", 0): [1, 2, 3], TP("t", 1): [4]}
    assert list(BatchScheduler().iterate(records)) == [(TP("t", 0), records)]
    assert list(BatchScheduler().iterate({})) == []


@pytest.mark.parametrize(("kind", "pauses"), [(NoTables, []), (TableManager, [1.0])])
async def test_an_app_without_tables_subscribes_at_once(kind: type[TableManager], pauses: list[float]) -> None:
    manager = kind(MagicMock(client_only=False, producer_only=False))
    manager.sleep, manager._recovery = AsyncMock(), AsyncMock()
    await manager.on_start()
    assert [call.args[0] for call in manager.sleep.await_args_list] == pauses
    manager.recovery.start.assert_awaited_once()
    async with asyncio.timeout(5):
        await manager.wait_until_tables_registered()


async def test_a_consumer_thread_that_has_ended_by_itself_can_be_stopped() -> None:
    """After a crash it may be faster than who stops it; mode would raise that its event loop is closed."""
    thread = ClaimingThread(MagicMock(), loop=asyncio.get_running_loop())
    thread.thread_loop.close()
    thread._stopped_set()
    assert thread.should_stop


def read_fetch(records: type, raw: Any, start: int) -> tuple[list[Any], int]:
    """Read a fetch as aiokafka's fetcher does; return the records and the next offset."""
    fetched = records(TopicPartition("t", 0), raw, None, start, None, None, False, fetcher.READ_UNCOMMITTED)
    return list(fetched), fetched.next_fetch_offset


@pytest.mark.parametrize("start", [7, 8, 11, 12])
@pytest.mark.parametrize("compression", [0, 1, 2, 3, 4])
def test_a_fetch_of_columns_has_the_records_and_the_next_offset_of_aiokafkas(start: int, compression: int) -> None:
    rows = [(b"k%d" % at, b"v", [("h", b"x")], at) for at in range(5)]
    raw = batch(7, rows) + batch(20, rows, compression=compression)
    theirs, next_offset = read_fetch(fetcher.PartitionRecords, MemoryRecords(raw), start)
    ours, our_next_offset = read_fetch(ColumnRecords, KeptRecords(raw), start)
    in_flight, _ = read_fetch(ColumnRecords, MemoryRecords(raw), start)
    assert told(in_flight) == told(theirs)
    assert our_next_offset == next_offset
    assert told(ours[0] if ours else []) == told(theirs)


@pytest.mark.parametrize("kind", [ColumnRecords, ObjectRecords])
def test_what_is_taken_of_a_fetch_says_from_which_position_on_it_is_all(kind: type) -> None:
    def taken(most: int | None) -> tuple[int, list[int]]:
        some = result.getall(most)
        return some.position, [record.offset for record in as_batch(some)]

    raw = batch(20, [(b"k", b"v", [], at) for at in range(5)])
    fetched = kind(TopicPartition("t", 0), KeptRecords(raw), None, 8, None, None, False, fetcher.READ_UNCOMMITTED)
    state = SimpleNamespace(paused=False, position=8)
    state.consumed_to = lambda position: setattr(state, "position", position)
    assignment = SimpleNamespace(active=True, state_value=lambda _: state)
    result = PositionedResult(TopicPartition("t", 0), assignment=assignment, partition_records=fetched, backoff=0)
    if kind is ObjectRecords:
        assert taken(2) == (8, [20, 21])
        assert taken(None) == (22, [22, 23, 24])
    else:
        assert taken(None) == (8, [20, 21, 22, 23, 24])


async def test_a_fetch_gathers_where_the_last_ones_took_much_of_a_core_and_the_next_takes_the_first_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=1500, _fetch_max_bytes=50_000_000)
    consumer, record = SimpleNamespace(_fetcher=options), {TP("t", 0): ["a record"]}
    fetches, cpu_s = AsyncMock(side_effect=[record, record, {}]), Mock(return_value=0.0)
    monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetches)
    monkeypatch.setattr(time, "process_time", cpu_s)
    thread = ClaimingThread(MagicMock(), loop=asyncio.get_running_loop())
    await thread._fetch_records(consumer, set())
    assert options._fetch_min_bytes == 1
    cpu_s.return_value = 1_000.0
    await thread._fetch_records(consumer, set())
    assert (options._fetch_min_bytes, options._fetch_max_wait_ms) == (ENOUGH_BYTES, MOST_GATHER_MS)
    assert await thread._fetch_records(consumer, set()) == {}  # a poll that found nothing changes nothing
    assert options._fetch_min_bytes == ENOUGH_BYTES
    async with asyncio.timeout(5):
        while options._fetch_min_bytes > 1:
            await asyncio.sleep(0.001)
    assert options._fetch_max_wait_ms > MOST_GATHER_MS
