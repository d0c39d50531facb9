import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import pytest
from confluent_kafka.admin import AdminClient, NewPartitions

from botify.core.kafka import replies
from botify.core.kafka.admin import end_offsets
from botify.core.kafka.config import common_config
from botify.core.kafka.layout import MAX_BYTES, ClosedEnds, alter_topics, ask_leaders
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import TopicReader
from botify.core.kafka.replies import ReplyReader
from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.support import delete_records, eventually, make_listens, produce, produce_raw, read_topic


def offsets(reader: TopicReader, end: dict[int, int] | None = None) -> list[int]:
    return [message.offset() for batch in reader.read_to_end(end) for message in batch]


def test_partitions_that_a_topic_gets_later_are_read_from_their_beginning(settings: Settings) -> None:
    topic = Topics.of(settings).dead_letters.name
    produce_raw(settings, topic, [(b"1", b"%d" % i) for i in range(3)], partition=0)
    with closing(TopicReader(settings, topic)) as reader:
        assert offsets(reader) == [0, 1, 2]
        admin = AdminClient(common_config(settings))  # has a name: answers die with their client
        admin.create_partitions([NewPartitions(topic, 8)])[topic].result(30)
        eventually(lambda: len(end_offsets(settings, topic)) == 8)
        produce_raw(settings, topic, [(b"1", b"new")] * 2, partition=6)
        produce_raw(settings, topic, [(b"1", b"more")], partition=0)
        assert sorted(offsets(reader)) == [0, 1, 3]
        assert (reader.next_offsets[0], reader.next_offsets[6], reader.next_offsets[7]) == (4, 2, 0)
        assert offsets(reader) == []


def test_what_has_arrived_is_read_without_asking_for_the_end(settings: Settings) -> None:
    topic = Topics.of(settings).listens.name
    produce_raw(settings, topic, [(b"1", b"%d" % i) for i in range(10)], partition=0)
    found: list[int] = []
    with closing(TopicReader(settings, topic)) as reader:

        def has_arrived(count: int) -> bool:
            found.extend(message.offset() for batch in reader.read_arrived() for message in batch)
            return len(found) >= count

        assert offsets(reader, {0: 4}) == [0, 1, 2, 3]
        eventually(lambda: has_arrived(6))
        produce_raw(settings, topic, [(b"1", b"more")], partition=0)
        eventually(lambda: has_arrived(7))
        assert found == [4, 5, 6, 7, 8, 9, 10]
        assert reader.next_offsets[0] == 11
        assert offsets(reader) == []


def test_what_retention_has_removed_is_skipped(settings: Settings) -> None:
    topic = Topics.of(settings).listens.name
    produce(settings, topic, make_listens(200, 50, 50))
    first = {partition: end // 2 for partition, end in end_offsets(settings, topic).items()}
    delete_records(settings, topic, first)
    kept = [(message.partition(), message.offset()) for message in read_topic(settings, topic)]
    assert sorted(kept) == [
        (partition, offset)
        for partition, end in sorted(end_offsets(settings, topic).items())
        for offset in range(first[partition], end)
    ]


async def until(wanted: Callable[[dict[int, int]], bool], ask: ClosedEnds) -> None:
    give_up = time.monotonic() + 30
    while not wanted(found := await ask()):
        assert time.monotonic() < give_up, found


def test_an_open_topic_proves_nothing_and_takes_nothing_and_a_closed_one_says_where_it_ends(
    settings: Settings, run: Any
) -> None:
    topic = Topics.of(settings).listens.name
    produce_raw(settings, topic, [(b"7", b"x")] * 3, partition=2)

    async def go() -> None:
        async with ask_leaders(settings, topic, settings.partitions) as closed_ends:
            assert await closed_ends() == {}
            before = end_offsets(settings, topic)
            assert before == {0: 0, 1: 0, 2: 3, 3: 0}
            alter_topics(settings, {topic: {MAX_BYTES: "1"}})
            await until(lambda ends: ends == before, closed_ends)
            alter_topics(settings, {topic: {MAX_BYTES: None}})
            await until(lambda ends: not ends, closed_ends)
            assert end_offsets(settings, topic) == before

    run(go())


def test_records_that_find_the_queue_full_are_sent_later_in_their_order(settings: Settings) -> None:
    topic = Topics.of(settings).sessions.name
    publisher = RecordPublisher(settings, linger_ms=0, queue_buffering_max_messages=50)
    for start in range(0, 2000, 200):
        publisher.send_batch(topic, [{"key": b"%d" % (n % 200), "value": b"%d" % n} for n in range(start, start + 200)])
    publisher.flush(60.0)
    received = [(m.key(), int(m.value())) for m in read_topic(settings, topic)]
    assert sorted(n for _, n in received) == list(range(2000))
    for key in {key for key, _ in received}:
        of_key = [n for k, n in received if k == key]
        assert of_key == sorted(of_key)


MANY = 300


def test_replies_before_and_after_a_move_arrive_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(replies, "WINDOW_S", 0.1)
    topic = Topics.of(settings).recommendations.name
    reader = ReplyReader(settings, topic, b"me-", keep_s=0.5, group="test", choose=min, fetch_wait_max_ms=20)
    request.addfinalizer(reader.close)
    got: list[bytes] = []
    sent: list[bytes] = []

    def reply(partition: int, values: Sequence[bytes]) -> None:
        produce_raw(settings, topic, [(b"42", value) for value in values], partition=partition)

    def ask(other: int) -> None:
        sent.append(b"me-%d" % len(sent))
        reply(reader.partition, [b"you-"] * other + sent[-1:])
        got.extend(reader.poll(1000, 0.05))

    def moved() -> bool:
        ask(MANY)
        return reader.partition == 1

    eventually(moved)
    for _ in range(20):
        ask(0)
    reply(0, [b"you-"] * MANY)
    eventually(lambda: got.extend(reader.poll(1000, 0.05)) or len(got) >= len(sent), what=lambda: (got, sent))
    assert got == sent
    others = reader.others
    for _ in range(30):  # longer than the old partition is read
        assert reader.poll(1000, 0.05) == []
    reply(0, [b"you-"] * MANY)
    ask(0)
    eventually(lambda: got.extend(reader.poll(1000, 0.05)) or len(got) == len(sent))
    assert reader.others <= others + MANY  # what was in flight as it moved, and nothing of what came then
