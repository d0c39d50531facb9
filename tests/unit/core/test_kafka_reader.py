"""Every record is read once and in order, whatever ends are asked for and whatever errors come between."""

from itertools import zip_longest
from unittest import mock

import pytest
from confluent_kafka import KafkaError, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from botify.core.errors import TopicError
from botify.core.kafka import reader
from botify.core.kafka.reader import AssignedConsumer, TopicReader
from botify.core.settings import Settings
from tests.support import FakeMessage

GONE, AWAY = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), KafkaError(KafkaError._TRANSPORT)


class FakeConsumer:
    """Has records at some offsets of each partition, which it hands out in turns, and says where partitions end."""

    def __init__(self, offsets: list[list[int]], end: int) -> None:
        self._offsets, self._end = offsets, end
        self.waiting: list[FakeMessage] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        coming, reached = [], KafkaError(KafkaError._PARTITION_EOF)
        for of, start in ((at.partition, at.offset) for at in partitions):
            records = [FakeMessage(partition=of, offset=offset) for offset in self._offsets[of] if offset >= start]
            coming.append([*records, FakeMessage(partition=of, offset=self._end, error=reached)])
        self.waiting = [one for turn in zip_longest(*coming) for one in turn if one is not None]

    def consume(self, most: int, timeout: float) -> list[FakeMessage]:
        taken, self.waiting = self.waiting[:most], self.waiting[most:]
        return taken

    def poll(self, timeout: float) -> FakeMessage | None:
        return next(iter(self.consume(1, timeout)), None)

    def get_watermark_offsets(self, at: TopicPartition, cached: bool) -> tuple[int, int]:
        return (0, self._end) if cached else (0, 2**62)


def make(fake: FakeConsumer, partitions: int = 1) -> AssignedConsumer:
    with mock.patch.object(reader, "Consumer", return_value=fake):
        return AssignedConsumer(Settings(), "t", dict.fromkeys(range(partitions), 0), group="test")


@given(
    st.lists(st.sets(st.integers(0, 29)).map(sorted), min_size=2, max_size=2),
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=5),
    st.integers(1, 7),
)
def test_reading_in_steps_is_reading_at_once(
    offsets: list[list[int]], steps: list[tuple[int, int]], batch: int
) -> None:
    with mock.patch.object(reader, "Consumer", return_value=FakeConsumer(offsets, 30)):
        topic = TopicReader(Settings(), "t", partitions=[0, 1], batch=batch)
    read: list[list[int]] = [[], []]
    for ends in [*steps, (30, 30)]:
        for messages in topic.read_to_end(dict(enumerate(ends))):
            assert len(messages) <= batch
            for message in messages:
                assert message.offset() < ends[message.partition()]
                read[message.partition()].append(message.offset())
        assert all(topic.next_offsets[partition] >= end for partition, end in enumerate(ends))
    assert read == offsets


def test_what_came_with_an_error_is_returned_before_it_is_raised() -> None:
    fake = FakeConsumer([[0, 1, 2]], 3)
    consumer = make(fake)
    fake.waiting.insert(1, FakeMessage(partition=0, offset=1, error=GONE))
    assert [message.offset() for message in consumer.poll(3, 0.0)] == [0, 1]
    with pytest.raises(TopicError, match=r"t\[0\] cannot be read at offset 2"):
        consumer.poll(3, 0.0)
    assert [message.offset() for message in consumer.poll(3, 0.0)] == [2]


def test_what_passes_by_itself_is_no_record_and_no_error() -> None:
    fake = FakeConsumer([[0]], 1)
    consumer = make(fake)
    fake.waiting.insert(0, FakeMessage(partition=-1, offset=-1, error=AWAY))
    assert consumer.poll(1, 0.0) == []
    assert [message.offset() for message in consumer.poll(5, 0.0, gather_s=0.0)] == [0]


def test_an_end_that_is_not_reached_is_said_with_its_partition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "IDLE_TIMEOUT_S", 0.0)
    consumer = make(FakeConsumer([[0, 1], [0]], 2), partitions=2)
    with pytest.raises(TopicError, match=r"t\[1\]: no record for 0 s at offset 2, before the end at 4"):
        for _ in consumer.poll_until({0: 2, 1: 4}, 10, 0.0):
            pass


def test_a_consumer_is_behind_until_all_that_its_broker_has_is_polled() -> None:
    consumer = make(FakeConsumer([[0, 1]], end=3))  # the last offset has no record
    seen = []
    while consumer.is_behind:
        seen.append([message.offset() for message in consumer.poll(1, 0.0, gather_s=0.0)])
    assert seen == [[0], [1], []]
    assert consumer.position == {0: 3}
