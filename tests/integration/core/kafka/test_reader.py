from __future__ import annotations

from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions

from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import common_config
from botify.core.kafka.reader import TopicReader
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.support import eventually, make_listens, produce, produce_raw, read_topic


def offsets(reader: TopicReader, end: dict[int, int] | None = None) -> list[int]:
    return [message.offset() for batch in reader.read_to_end(end) for message in batch]


def test_what_lies_after_one_end_is_read_up_to_the_next(settings: Settings) -> None:
    topic = Topics.of(settings).listens.name
    produce_raw(settings, topic, [(b"1", b"%d" % i) for i in range(10)], partition=0)
    reader = TopicReader(settings, topic)
    try:
        assert offsets(reader, {0: 3}) == [0, 1, 2]
        assert offsets(reader, {0: 4, 1: 0}) == [3]
        produce_raw(settings, topic, [(b"1", b"more")], partition=0)
        assert offsets(reader) == [4, 5, 6, 7, 8, 9, 10]
        assert offsets(reader) == []
    finally:
        reader.close()


def test_partitions_that_a_topic_gets_later_are_read_from_their_beginning(settings: Settings) -> None:
    topic = Topics.of(settings).dead_letters.name
    produce_raw(settings, topic, [(b"1", b"%d" % i) for i in range(3)], partition=0)
    reader = TopicReader(settings, topic)
    try:
        assert offsets(reader) == [0, 1, 2]
        admin = AdminClient(common_config(settings))  # has a name: answers die with their client
        admin.create_partitions([NewPartitions(topic, 8)])[topic].result(30)
        eventually(lambda: len(end_offsets(settings, topic)) == 8)
        produce_raw(settings, topic, [(b"1", b"new")] * 2, partition=6)
        produce_raw(settings, topic, [(b"1", b"more")], partition=0)
        assert sorted(offsets(reader)) == [0, 1, 3]
        assert (reader.next_offsets[0], reader.next_offsets[6], reader.next_offsets[7]) == (4, 2, 0)
        assert offsets(reader) == []
    finally:
        reader.close()


def test_what_has_arrived_is_read_without_asking_for_the_end(settings: Settings) -> None:
    topic = Topics.of(settings).listens.name
    produce_raw(settings, topic, [(b"1", b"%d" % i) for i in range(10)], partition=0)
    reader = TopicReader(settings, topic)

    found: list[int] = []

    def has_arrived(count: int) -> bool:
        found.extend(message.offset() for batch in reader.read_arrived() for message in batch)
        return len(found) >= count

    try:
        assert offsets(reader, {0: 4}) == [0, 1, 2, 3]
        eventually(lambda: has_arrived(6))
        produce_raw(settings, topic, [(b"1", b"more")], partition=0)
        eventually(lambda: has_arrived(7))
        assert found == [4, 5, 6, 7, 8, 9, 10]
        assert reader.next_offsets[0] == 11
        assert offsets(reader) == []
    finally:
        reader.close()


def test_what_retention_has_removed_is_skipped(settings: Settings) -> None:
    topic = Topics.of(settings).listens.name
    produce(settings, topic, make_listens(200, 50, 50))
    first = {partition: end // 2 for partition, end in end_offsets(settings, topic).items()}
    gone = [TopicPartition(topic, partition, offset) for partition, offset in first.items()]
    admin = AdminClient(common_config(settings))
    for removed in admin.delete_records(gone).values():
        removed.result(30)
    kept = [(message.partition(), message.offset()) for message in read_topic(settings, topic)]
    assert sorted(kept) == [
        (partition, offset)
        for partition, end in sorted(end_offsets(settings, topic).items())
        for offset in range(first[partition], end)
    ]
