"""What `streams/worker/py` relies on in Faust and aiokafka. An upgrade that breaks it fails here first."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable
from importlib.metadata import entry_points, requires, version
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.consumer.subscription_state import SubscriptionState
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust.transport import conductor
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.transport.drivers import by_url
from faust.transport.utils import DefaultSchedulingStrategy
from faust.types import TP, ConsumerMessage
from yarl import URL

from botify.core.kafka.column_fetch import ColumnRecords, KeptRecords
from botify.streams.worker.faust_app import BoundedWorker
from botify.streams.worker.transport import (
    ENOUGH_BYTES,
    MOST_GATHER_MS,
    BatchConsumer,
    BatchScheduler,
    BatchSchema,
    BatchTransport,
    ClaimingThread,
    NoReadOffsets,
)
from tests.unit.core.kafka.test_record_columns import batch, told

TESTED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}


@pytest.mark.parametrize(("package", "tested"), TESTED.items())
def test_the_versions_are_those_that_were_tested_and_pinned(package: str, tested: str) -> None:
    assert version(package) == tested
    assert f"{package}=={tested}" in (requires("botify-streams") or [])


OVERRIDDEN = [
    (DefaultSchedulingStrategy, BatchScheduler, "iterate", "(records)"),
    (driver.Consumer, BatchConsumer, "_to_message", "(tp, record)"),
    (driver.Consumer, BatchConsumer, "_new_consumer_thread", "()"),
    (driver.Consumer, BatchConsumer, "on_partitions_assigned", "(assigned, generation_id)"),
    (driver.Consumer, BatchConsumer, "seek_to_committed", "()"),
    (driver.Consumer, BatchConsumer, "on_buffer_full", "(tp)"),
    (driver.Consumer, BatchConsumer, "_filter_tps_with_pending_acks", "(topics)"),
    (driver.Consumer, BatchConsumer, "_new_offset", "(tp)"),
    (driver.Consumer, BatchConsumer, "_add_gap", "(tp, offset_from, offset_to)"),
    (driver.AIOKafkaConsumerThread, ClaimingThread, "getmany", "(active_partitions, timeout)"),
    (
        driver.AIOKafkaConsumerThread,
        ClaimingThread,
        "_fetch_records",
        "(consumer, active_partitions, timeout, max_records)",
    ),
    (driver.AIOKafkaConsumerThread, ClaimingThread, "_stopped_set", "()"),
    (driver.AIOKafkaConsumerThread, ClaimingThread, "_create_worker_consumer", "(transport)"),
    (driver.AIOKafkaConsumerThread, ClaimingThread, "highwater", "(tp)"),
    (faust.Worker, BoundedWorker, "_schedule_shutdown", "(signal)"),
    (faust.Schema, BatchSchema, "loads_key", None),
    (faust.Schema, BatchSchema, "loads_value", None),
]


def parameters(method: Callable[..., Any]) -> str:
    names = [name for name in inspect.signature(method).parameters if name != "self"]
    return f"({', '.join(names)})"


@pytest.mark.parametrize(("of_faust", "ours", "name", "expected"), OVERRIDDEN, ids=lambda value: str(value))
def test_every_overridden_method_exists_with_that_signature(
    of_faust: type, ours: type, name: str, expected: str | None
) -> None:
    theirs = getattr(of_faust, name)
    assert getattr(ours, name) is not theirs
    assert inspect.iscoroutinefunction(theirs) == inspect.iscoroutinefunction(getattr(ours, name))
    if expected is not None:
        assert parameters(theirs) == parameters(getattr(ours, name)) == expected


def test_nothing_of_faust_is_overridden_that_is_not_held_here() -> None:
    held = {(ours, name) for _, ours, name, _ in OVERRIDDEN}
    for ours in (BatchConsumer, BoundedWorker, ClaimingThread, BatchScheduler, BatchSchema):
        methods = {name for name, value in vars(ours).items() if inspect.isfunction(value) and name != "__init__"}
        of_faust = {name for name in methods if any(hasattr(parent, name) for parent in ours.__mro__[1:])}
        assert {(ours, name) for name in of_faust} <= held


CALLS = [
    (base.Consumer.perform_seek, "self.seek_to_committed()"),
    (base.Consumer.perform_seek, "read_offset = self._read_offset"),
    (base.Consumer.perform_seek, "read_offset.update("),
    (base.Consumer.getmany, "self.scheduler.iterate(records)"),
    (base.Consumer.getmany, "to_message = self._to_message"),
    (base.Consumer.getmany, "yield tp, to_message(tp, record)"),
    (base.Consumer._drain_messages, "self._add_gap(tp, r_offset + 1, offset)"),
    (base.Consumer._drain_messages, "get_read_offset = self._read_offset.__getitem__"),
    (base.Consumer._drain_messages, "set_read_offset = self._read_offset.__setitem__"),
    (base.Consumer._drain_messages, "if r_offset is None or offset >= r_offset:"),
    (base.Consumer._filter_committable_offsets, "self._new_offset(tp)"),
    (base.Consumer._commit_tps, "self._filter_committable_offsets(tps)"),
    (base.Consumer.commit_and_end_transactions, "self.commit("),
    (driver.ConsumerRebalanceListener.on_partitions_revoked, "thread.app.on_rebalance_start()"),
    (faust.App.on_rebalance_start, "self.rebalancing_count += 1"),
    (base.ThreadDelegateConsumer.__init__, "self._thread = self._new_consumer_thread()"),
    (base.ThreadDelegateConsumer.seek_wait, "self._thread.seek_wait(partitions)"),
    (base.Consumer._wait_next_records, "self._getmany("),
    (conductor.ConductorCompiler.build, "consumer_on_buffer_full(tp)"),
    (base.Consumer.on_buffer_full, "active_partitions.discard(tp)"),
    (base.ThreadDelegateConsumer._getmany, "self._thread.getmany(active_partitions, timeout)"),
    (faust.App._on_partitions_assigned, "(self.on_partitions_assigned.send)(assigned)"),
    (SubscriptionState._assigned_state, "raise IllegalStateError("),
    (fetcher.Fetcher._proc_fetch_request, "records = MemoryRecords(part_data[-1])"),
    (fetcher.Fetcher._proc_fetch_request, "partition_records = PartitionRecords("),
    (driver.AIOKafkaConsumerThread.getmany, "self._fetch_records,"),
    (driver.AIOKafkaConsumerThread._fetch_records, "fetcher = consumer._fetcher"),
    (fetcher.Fetcher._get_actions_per_node, "self._fetch_max_wait_ms,"),
    (fetcher.Fetcher._get_actions_per_node, "self._fetch_min_bytes,"),
    (fetcher.Fetcher.__init__, "self._fetch_max_bytes = fetch_max_bytes"),
    (fetcher.FetchResult.getall, "for msg in self._partition_records:"),
    (fetcher.FetchResult._update_position, "self._partition_records.next_fetch_offset"),
    (fetcher.PartitionRecords.__init__, "self._records_iterator = self._unpack_records()"),
    (fetcher.PartitionRecords.__next__, "return next(self._records_iterator)"),
    (fetcher.PartitionRecords._unpack_records, "consumer_record = self._consumer_record(tp, record)"),
    (fetcher.PartitionRecords._unpack_records, "self.next_fetch_offset = record.offset + 1"),
    (driver.AIOKafkaConsumerThread.highwater, "return self._ensure_consumer().last_stable_offset(tp)"),
    (driver.AIOKafkaConsumerThread._create_consumer, "self._create_worker_consumer(transport)"),
    (AIOKafkaConsumer.start, "isolation_level=self._isolation_level"),
]


@pytest.mark.parametrize(("caller", "call"), CALLS, ids=lambda value: getattr(value, "__qualname__", value))
def test_what_is_overridden_is_still_called_where_we_rely_on_it(caller: Callable[..., Any], call: str) -> None:
    assert call in inspect.getsource(caller)


def test_the_consumer_sets_what_ours_replaces_before_ours_does() -> None:
    source = inspect.getsource(base.Consumer.__init__)
    assert "self.scheduler = " in source
    assert "self._read_offset = " in source


def test_the_transport_is_found_by_its_scheme() -> None:
    (entry,) = entry_points(group="faust.transports", name="botify")
    assert entry.load() is BatchTransport
    assert by_url(URL("botify://127.0.0.1:9092")) is BatchTransport
    assert BatchTransport.Consumer is BatchConsumer


def test_the_consumer_is_created_from_the_transports_attribute() -> None:
    assert "return self.Consumer(" in inspect.getsource(driver.Transport.create_consumer)


def test_a_run_is_handed_out_whole() -> None:
    records = {TP("t", 0): [1, 2, 3], TP("t", 1): [4]}
    assert list(BatchScheduler().iterate(records)) == [(TP("t", 0), records)]
    assert list(BatchScheduler().iterate({})) == []


def test_a_message_has_the_fields_that_ours_sets() -> None:
    names = list(inspect.signature(ConsumerMessage.__init__).parameters)[1:]
    assert names[:9] == [
        "topic",
        "partition",
        "offset",
        "timestamp",
        "timestamp_type",
        "headers",
        "key",
        "value",
        "checksum",
    ]
    assert {"tp", "generation_id"} <= set(names)


def test_a_consumer_thread_that_has_ended_by_itself_can_be_stopped() -> None:
    """After a crash it may be faster than who stops it; mode would raise that its event loop is closed."""

    async def main() -> None:
        thread = ClaimingThread(MagicMock(), loop=asyncio.get_running_loop())
        thread.thread_loop.close()
        thread._stopped_set()
        assert thread.should_stop

    asyncio.run(main())


def test_read_offsets_forget() -> None:
    offsets = NoReadOffsets()
    offsets[TP("t", 0)] = 5
    offsets.update({TP("t", 0): 7})
    assert offsets.__getitem__(TP("t", 0)) is None
    assert len(offsets) == 0


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


def test_a_fetch_gathers_where_the_last_ones_took_much_of_a_core_and_the_next_takes_the_first_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = SimpleNamespace(_fetch_min_bytes=1, _fetch_max_wait_ms=1500, _fetch_max_bytes=50_000_000)
    fetches: list[Any] = [{TP("t", 0): ["a record"]}, {TP("t", 0): ["a record"]}, {}]
    cpu_s = [0.0]

    async def fetch(*_: Any) -> Any:
        return fetches.pop(0)

    async def main() -> None:
        monkeypatch.setattr(driver.AIOKafkaConsumerThread, "_fetch_records", fetch)
        monkeypatch.setattr(time, "process_time", lambda: cpu_s[0])
        thread = ClaimingThread(MagicMock(), loop=asyncio.get_running_loop())
        consumer = SimpleNamespace(_fetcher=options)
        await thread._fetch_records(consumer, set())
        assert options._fetch_min_bytes == 1
        cpu_s[0] = 1_000.0
        await thread._fetch_records(consumer, set())
        assert (options._fetch_min_bytes, options._fetch_max_wait_ms) == (ENOUGH_BYTES, MOST_GATHER_MS)
        assert await thread._fetch_records(consumer, set()) == {}  # a poll that found nothing changes nothing
        assert options._fetch_min_bytes == ENOUGH_BYTES
        give_up = time.monotonic() + 5.0
        while options._fetch_min_bytes > 1 and time.monotonic() < give_up:
            await asyncio.sleep(0.001)
        assert options._fetch_max_wait_ms > MOST_GATHER_MS

    asyncio.run(main())
