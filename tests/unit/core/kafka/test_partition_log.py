"""A partition is read in order and without gaps, wherever the ends are that are asked for."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka import KafkaError

from botify.core.errors import TopicError
from botify.core.kafka import reader
from botify.core.kafka.reader import PartitionLog
from botify.core.settings import Settings


class FakeMessage:
    def __init__(self, offset: int, error: KafkaError | None = None) -> None:
        self._offset = offset
        self._error = error

    def __getattr__(self, name: str) -> Any:
        fields = {"topic": "t", "partition": 0, "timestamp": (1, 0), "key": b"", "value": b"", "headers": None}
        return lambda: fields[name]

    def offset(self) -> int:
        return self._offset

    def error(self) -> KafkaError | None:
        return self._error


class FakeConsumer:
    """Has records at some offsets; between them were transaction markers. Says once where the partition ends."""

    def __init__(self, offsets: list[int], end: int) -> None:
        self._waiting = [FakeMessage(offset) for offset in offsets]
        self._waiting.append(FakeMessage(end, KafkaError(KafkaError._PARTITION_EOF)))

    def consume(self, most: int, timeout: float) -> list[FakeMessage]:
        taken, self._waiting = self._waiting[:most], self._waiting[most:]
        return taken

    def poll(self, timeout: float) -> FakeMessage | None:
        return next(iter(self.consume(1, timeout)), None)

    def assign(self, partitions: list[Any]) -> None:
        pass


@pytest.fixture
def log_of(monkeypatch: pytest.MonkeyPatch) -> Any:
    def make(offsets: list[int], end: int) -> PartitionLog:
        monkeypatch.setattr(reader, "Consumer", lambda config: FakeConsumer(offsets, end))
        monkeypatch.setattr(reader, "IDLE_TIMEOUT_S", 0.0)
        return PartitionLog(Settings(), "t", 0, 0)

    return make


def offsets(log: PartitionLog, end: int) -> list[int]:
    return [record.offset for batch in log.read_to(end) for record in batch]


def test_reading_in_steps_is_reading_at_once(log_of: Any) -> None:
    every = [0, 1, 2, 5, 6, 9]
    for first in range(11):
        log = log_of(every, 10)
        before = offsets(log, first)
        assert before == [offset for offset in every if offset < first]
        assert before + offsets(log, 10) == every
        assert log.next_offset == 10


def test_markers_at_the_end_are_no_records_to_wait_for(log_of: Any) -> None:
    log = log_of([0, 1], end=5)
    assert offsets(log, 5) == [0, 1]
    assert log.next_offset == 5


def test_a_partition_that_does_not_get_that_far_is_said_so(log_of: Any) -> None:
    with pytest.raises(TopicError, match=r"t\[0\]: no record for .* at offset 2"):
        offsets(log_of([0, 1], end=2), 3)
