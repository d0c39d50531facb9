"""Invariant: columns hold the records that aiokafka reads from the same bytes."""

from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from hypothesis import given
from hypothesis import strategies as st

from botify.core.kafka.column_fetch import KeptRecords, ObjectRecords
from botify.core.kafka.headers import safe_headers
from botify.core.kafka.record_columns import MOST_BYTES, bound_aiokafka, read_batches
from tests.hostile import ZSTD, Raw, raw_batch

CODECS = range(5)
LOG_APPEND_TIME = 0x08
ATTRIBUTES_AT = 21
ROW = (b"k", b"v", [], 1_000)

Told = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]
PARTS = st.none() | st.binary(max_size=200)
HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)
ROWS = st.lists(st.tuples(PARTS, PARTS, HEADERS, st.integers(0, 10**13)), min_size=1, max_size=6)


def batch(first_offset: int, rows: Any, *, attributes: int = 0, compression: int = 0) -> bytes:
    builder = DefaultRecordBatchBuilder(2, compression, 0, -1, -1, -1, 1 << 20)  # no transaction, of no producer
    for at, (key, value, headers, timestamp) in enumerate(rows):
        builder.append(at, timestamp=timestamp, key=key, value=value, headers=headers)
    raw = bytearray(builder.build())
    raw[:8] = first_offset.to_bytes(8, "big")
    raw[ATTRIBUTES_AT + 1] |= attributes
    return bytes(raw)


def fetch(batches: Any, attributes: int = 0, compression: int = 0) -> bytes:
    raw, offset = b"", 7
    for rows in batches:
        raw += batch(offset, rows, attributes=attributes, compression=compression)
        offset += len(rows) + 2  # compaction leaves gaps
    return raw


def at_offset(offset: int, raw: bytes) -> bytes:
    return offset.to_bytes(8, "big") + raw[8:]


def told(records: Any) -> list[Told]:
    return [(one.offset, one.timestamp, one.key, one.value, tuple(one.headers)) for one in records]


def read_by_aiokafka(raw: bytes, start: int) -> list[Told]:
    records = MemoryRecords(raw)
    found: list[Told] = []
    while records.has_next():
        found += told(records.next_batch())
    headers = [safe_headers((name.encode(), value) for name, value in one[4]) for one in found]
    return [(*one[:4], safe) for one, safe in zip(found, headers, strict=True) if one[0] >= start]


@given(
    st.lists(ROWS, min_size=1, max_size=4),
    st.integers(0, 40),
    st.integers(0, 40),
    st.sampled_from([0, LOG_APPEND_TIME]),
    st.sampled_from(CODECS),
)
def test_columns_are_what_aiokafka_reads(batches: Any, start: int, cut: int, attributes: int, codec: int) -> None:
    raw = fetch(batches, attributes, codec)
    read = read_batches("t", 3, raw + raw[: min(cut, len(raw) - 1)], start)
    assert read is not None
    columns, next_offset = read
    assert told(columns) == read_by_aiokafka(raw, start)
    assert next_offset == 7 + sum(len(rows) + 2 for rows in batches) - 2
    assert {(one.topic, one.partition) for one in columns} <= {("t", 3)}


@given(st.lists(ROWS, min_size=1, max_size=3), st.data())
def test_damaged_bytes_are_read_within_their_bounds(batches: Any, data: st.DataObject) -> None:
    raw = bytearray(fetch(batches))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    read = read_batches("t", 0, bytes(raw), 0)
    if read is not None:
        for begins, ends in (read[0].keys, read[0].values):
            assert ((begins == -1) | ((begins >= 0) & (begins <= ends) & (ends <= len(read[0].raw)))).all()


@pytest.mark.parametrize("codec", CODECS[1:])
def test_a_batch_that_unpacks_to_more_than_its_bound_is_one_record_that_says_so(codec: int) -> None:
    bomb = raw_batch([Raw(b"k", b"v"), Raw(b"k", bytes(MOST_BYTES))], codec)
    assert len(bomb) < MOST_BYTES / 15
    raw = at_offset(7, bomb) + batch(9, [ROW], compression=codec)
    read = read_batches("t", 0, raw, 0)
    assert read is not None
    refused, good = read[0]
    assert (refused.offset, refused.key, good.offset, good.value) == (8, None, 9, b"v")
    assert str(MOST_BYTES).encode() in refused.value

    bound_aiokafka()
    records = ObjectRecords(TopicPartition("t", 0), KeptRecords(raw), None, 0, None, None, False, 0)
    assert told(records._unpack_records()) == told([refused, good])


def test_a_fetch_ends_before_it_unpacks_to_more_than_two_bounds() -> None:
    half = raw_batch([Raw(b"k", bytes(MOST_BYTES * 2 // 3))], ZSTD)
    read = read_batches("t", 0, b"".join(at_offset(at, half) for at in range(9)), 0)
    assert read is not None
    assert (len(read[0]), read[1]) == (2, 2)


def test_a_broken_batch_and_one_of_an_earlier_version_are_left_to_aiokafka() -> None:
    assert read_batches("t", 0, batch(5, [ROW]) + batch(0, [ROW])[:-1] + b"\x7f", 0) is None
    builder = LegacyRecordBatchBuilder(magic=1, compression_type=0, batch_size=1 << 20)
    builder.append(0, timestamp=1, key=b"k", value=b"v")
    assert read_batches("t", 0, bytes(builder.build()), 0) is None
