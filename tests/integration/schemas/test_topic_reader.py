from __future__ import annotations

from schemas.settings import Settings
from schemas.topic_reader import TopicReader
from schemas.topics import Topics
from tests.support import produce_raw


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
