"""Invariant: a record's headers, whatever a broker took, can be read, and carried on into another record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka.consumer import fetcher
from aiokafka.structs import TopicPartition
from confluent_kafka import Producer

from botify.core.kafka.column_fetch import ColumnRecords, KeptRecords, ObjectRecords
from botify.core.kafka.headers import CUT, MAX_HEADER_BYTES, UNREADABLE, carried, headers_of
from botify.core.settings import Settings
from botify.schemas.dead_letters import dead_letter, origin_of
from botify.schemas.topics import MAX_DEAD_LETTER_BYTES
from tests.hostile import ABORT, COMMIT, HEADERS, TRANSACTIONAL, Raw, marker, produce_batches, raw_batch
from tests.support import read_topic

ROOT = Path(__file__).parents[4]
RECORDS = [Raw(b"k", b"%d" % at, headers) for at, headers in enumerate(HEADERS)]
QUIET = {"log_level": 0}


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    """librdkafka's own mock of a broker; it lives as long as its producer."""
    producer = Producer({"bootstrap.servers": "mock", "test.mock.num.brokers": 1, **QUIET})
    brokers = producer.list_topics("t", timeout=10).brokers.values()
    yield ",".join(f"{one.host}:{one.port}" for one in brokers)
    producer.flush(10)


def read_fetch(kind: type, raw: bytes, aborted: Any = None, start: int = 0) -> tuple[list[Any], int]:
    rest = (None, None, False, fetcher.READ_COMMITTED)
    fetched = kind(TopicPartition("t", 0), KeptRecords(raw), aborted, start, *rest)
    found = list(fetched)
    return (list(found[0]) if found and kind is ColumnRecords else found), fetched.next_fetch_offset


def test_every_reader_reads_hostile_headers_alike_and_twice(broker: str) -> None:
    raw = raw_batch(RECORDS)
    assert produce_batches(broker, "read", [(0, raw)]) == [0]
    messages = read_topic(Settings(kafka_bootstrap_servers=broker), "read")
    by_confluent, again = ([headers_of(one) for one in messages] for _ in range(2))
    assert again == by_confluent
    in_columns, next_offset = read_fetch(ColumnRecords, raw)
    assert next_offset == len(RECORDS)
    for theirs, ours in zip(by_confluent, (one.headers for one in in_columns), strict=True):
        assert [value for _, value in theirs] == [value for _, value in ours]
        assert all(name in (own, UNREADABLE) for (name, _), (own, _) in zip(theirs, ours, strict=True))


@pytest.mark.parametrize("codec", range(5))
@pytest.mark.parametrize("start", [0, 1, 5, len(RECORDS)])
def test_objects_and_columns_are_the_same_from_any_offset(codec: int, start: int) -> None:
    raw = raw_batch(RECORDS, codec) + raw_batch(RECORDS[:1], first_offset=20)
    assert read_fetch(ObjectRecords, raw, start=start) == read_fetch(ColumnRecords, raw, start=start)


@pytest.mark.parametrize("kind", [ColumnRecords, ObjectRecords])
@pytest.mark.parametrize("names", [b"trace", b"\xff"])
def test_records_of_aborted_transactions_are_left_out_and_their_offsets_passed(kind: type, names: bytes) -> None:
    def batch(first_offset: int, value: bytes, producer: int) -> bytes:
        records = [Raw(b"k", value, [(names, b"")])] * 2
        return raw_batch(records, 2, first_offset, TRANSACTIONAL if producer >= 0 else 0, producer)

    raw = batch(0, b"plain", -1) + batch(2, b"aborted", 7) + batch(4, b"committed", 8)
    raw += marker(ABORT, 6, 7) + marker(COMMIT, 7, 8) + batch(8, b"committed later", 7) + marker(COMMIT, 10, 7)
    found, next_offset = read_fetch(kind, raw, [(7, 2)])
    assert [one.value for one in found] == [b"plain"] * 2 + [b"committed"] * 2 + [b"committed later"] * 2
    assert next_offset == 11


@pytest.mark.parametrize("headers", HEADERS, ids=lambda headers: str(headers)[:30])
def test_a_dead_letter_of_any_record_can_be_published_and_names_its_origin(broker: str, headers: Any) -> None:
    (record,), _ = read_fetch(ColumnRecords, raw_batch([Raw(b"k" * 100_000, bytes(3_000_000), headers)]))
    letter = dead_letter(("t", 0, 7), record.key, record.value, record.headers, ValueError("\udcff"))
    refused: list[Any] = []
    producer = Producer({"bootstrap.servers": broker, "message.max.bytes": MAX_DEAD_LETTER_BYTES, **QUIET})
    producer.produce("letters", **letter, on_delivery=lambda error, _: refused.append(error))
    assert producer.flush(10) == 0
    assert refused == [None]
    assert str(origin_of(letter["headers"])) == "t/0/7"
    assert CUT in dict(letter["headers"])


def test_what_botify_wrote_is_carried_first() -> None:
    own = [("trace", b"1")] * 1_000 + [("botify.redrive.of", b"t/0/1")]
    kept = carried(own)
    assert kept[0] == ("botify.redrive.of", b"t/0/1")
    assert kept[-1] == (CUT, b"873 headers")
    assert carried(kept)[1] == (CUT, b"873 headers")
    assert carried([("x" * MAX_HEADER_BYTES, b"")]) == [("x" * MAX_HEADER_BYTES, b"")]


def test_headers_are_read_nowhere_else() -> None:
    folders = ("core", "schemas", "streams", "services", "sim", "ingest", "analytics", "evaluation")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert [path for path in sources if ".headers()" in path.read_text()] == []
