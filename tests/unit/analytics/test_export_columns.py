from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from botify.analytics.export import TIME_COLUMNS
from botify.analytics.export_files import arrow_schema, record_batch
from botify.schemas.events import Event, Listen, Recommendation, Slate
from tests.unit.analytics.listens import drawn, listen


def test_columns_are_typed_from_the_avro_schema() -> None:
    schema = arrow_schema(Listen)
    assert tuple(schema.names) == (*Listen._fields, "kafka_partition", "kafka_offset")
    assert schema.field("user") == pa.field("user", pa.int64(), nullable=False)
    assert schema.field("position") == pa.field("position", pa.int32(), nullable=False)
    assert schema.field("treatments") == pa.field("treatments", pa.map_(pa.string(), pa.string()), nullable=False)
    assert schema.field("latency_ms") == pa.field("latency_ms", pa.float64())


@pytest.mark.parametrize("event", list(TIME_COLUMNS))
def test_what_can_be_exported_has_the_column_that_decides_its_day(event: type[Event]) -> None:
    assert arrow_schema(event).field(TIME_COLUMNS[event]).type == pa.int64()


def test_rows_are_the_events() -> None:
    listens = drawn(20, np.random.default_rng(1))
    listens[3] = listens[3]._replace(treatments={"demo": "C", "other": "T2"})
    batch = record_batch(arrow_schema(Listen), listens, [3] * len(listens), range(len(listens)))
    batch.validate(full=True)
    for offset, (row, event) in enumerate(zip(batch.to_pylist(maps_as_pydicts="strict"), listens, strict=True)):
        assert row == {**event._asdict(), "kafka_partition": 3, "kafka_offset": offset}


def test_no_events_are_a_batch_of_the_same_type() -> None:
    schema = arrow_schema(Listen)
    assert record_batch(schema, [], [], []).schema == record_batch(schema, [listen()], [0], [0]).schema


def test_an_empty_slate_has_no_track() -> None:
    """The record says -1, which would be counted as a track."""
    slate: Slate = {"tracks": [], "propensities": [], "scores": [], "sources": [], "because": [], "versions": {}}
    empty = Recommendation("r", 42, -1, "", {}, 1.0, 0, 1.0, 1000, slate=slate)
    batch = record_batch(arrow_schema(Recommendation), [empty, empty._replace(track=0, slate=None)], [0, 0], [1, 2])
    batch.validate(full=True)
    assert batch["track"].to_pylist() == [None, 0]
