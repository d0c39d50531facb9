"""A partition is read in order and without gaps, wherever the ends are that are asked for, in columns or as objects."""

from contextlib import aclosing
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from botify.core.errors import TopicError
from botify.core.kafka import column_fetch as module
from botify.core.kafka.column_fetch import ColumnLog
from botify.core.kafka.reader import LogRecord
from botify.core.kafka.record_columns import RecordColumns
from botify.core.settings import Settings

AT = TopicPartition("t", 0)


class FakeConsumer:
    """Has records at some offsets, in fetches of three; between them were transaction markers."""

    def __init__(self, offsets: list[int], end: int, *, in_columns: bool) -> None:
        self._offsets, self._end, self._in_columns = offsets, end, in_columns
        self._position = 0

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def assign(self, partitions: list[TopicPartition]) -> None:
        assert partitions == [AT]

    def seek(self, partition: TopicPartition, offset: int) -> None:
        self._position = offset

    async def position(self, partition: TopicPartition) -> int:
        return self._position

    async def getmany(self, partition: TopicPartition, timeout_ms: int, max_records: int) -> dict[TopicPartition, Any]:
        if self._position < 0:
            raise OffsetOutOfRangeError({AT: self._position})
        found = [offset for offset in self._offsets if offset >= self._position][:3]
        records = [LogRecord("t", 0, offset, offset, b"k", b"%d" % offset, ()) for offset in found]
        self._position = found[-1] + 1 if len(found) == 3 else self._end
        if not records:
            return {}
        return {AT: [RecordColumns.of(records)] if self._in_columns else records}


@pytest.fixture(params=[True, False], ids=["columns", "objects"])
def log_of(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Any:
    def make(offsets: list[int], end: int, start: int = 0) -> ColumnLog:
        consumer = FakeConsumer(offsets, end, in_columns=request.param)
        monkeypatch.setattr(module, "AIOKafkaConsumer", lambda **_: consumer)
        monkeypatch.setattr(module, "IDLE_TIMEOUT_S", 0.0)
        return ColumnLog(Settings(), "t", 0, start)

    return make


async def values(log: ColumnLog, *ends: int) -> list[bytes]:
    found = []
    for end in ends:
        async with aclosing(log.read_ahead(end)) as runs:
            found += [record.value async for run in runs for record in run]
        assert log.next_offset == end
    await log.aclose()
    return found


async def test_reading_in_steps_is_reading_at_once(log_of: Any) -> None:
    every = [0, 1, 2, 5, 6, 9]
    for first in range(11):
        assert await values(log_of(every, 10), first, 10) == [b"%d" % offset for offset in every]


async def test_markers_at_the_end_are_no_records_to_wait_for(log_of: Any) -> None:
    assert await values(log_of([0, 1], end=5), 5) == [b"0", b"1"]


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [(0, 3, r": no record for .* at offset 2"), (-1, 2, r" cannot be read at offset -1: .*OutOfRange")],
)
async def test_what_a_partition_does_not_have_is_said_with_its_offset(
    log_of: Any, start: int, end: int, why: str
) -> None:
    with pytest.raises(TopicError, match=rf"t\[0\]{why}"):
        await values(log_of([0, 1], end=2, start=start), end)


async def test_a_log_with_nothing_to_read_does_not_connect(log_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeConsumer, "start", None)
    assert await values(log_of([], end=0), 0) == []
