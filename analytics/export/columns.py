"""Events as columns, typed from their Avro schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from botify.schemas.codec import load
from botify.schemas.events import Event, Recommendation

PARTITION, OFFSET = "kafka_partition", "kafka_offset"
"""Columns that identify a row's record in the topic."""

_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}


def arrow_schema(event: type[Event]) -> pa.Schema:
    """Return the columns of an event: the fields of its newest Avro schema, then partition and offset.

    A union with null becomes a nullable column, a map of strings an Arrow map, a record a struct.
    `Recommendation.track` of an empty slate, -1 in the record, is null.
    """
    newest = max((schema for schema in load() if schema.event is event), key=lambda schema: schema.version)
    fields = [_field(field["name"], field["type"]) for field in json.loads(newest.text)["fields"]]
    if event is Recommendation:  # an empty slate has no track
        fields = [field.with_nullable(field.nullable or field.name == "track") for field in fields]
    return pa.schema(
        [*fields, pa.field(PARTITION, pa.int32(), nullable=False), pa.field(OFFSET, pa.int64(), nullable=False)]
    )


def _field(name: str, avro_type: Any) -> pa.Field:
    if isinstance(avro_type, list):
        (present,) = (member for member in avro_type if member != "null")
        return pa.field(name, _type(present))
    return pa.field(name, _type(avro_type), nullable=False)


def _type(avro_type: Any) -> pa.DataType:
    if isinstance(avro_type, dict) and avro_type["type"] == "array":
        return pa.list_(_type(avro_type["items"]))
    if isinstance(avro_type, dict) and avro_type["type"] == "record":
        return pa.struct([_field(field["name"], field["type"]) for field in avro_type["fields"]])
    if isinstance(avro_type, dict):
        return pa.map_(pa.string(), _type(avro_type["values"]))
    return _TYPES[avro_type]


def record_batch(
    schema: pa.Schema, events: Sequence[Event], partitions: Sequence[int], offsets: Sequence[int]
) -> pa.RecordBatch:
    """Turn events into columns.

    `events`: all of the schema's event class.
    `partitions`, `offsets`: position of each event's record.
    """
    if not events:
        return pa.RecordBatch.from_pylist([], schema=schema)
    columns = [*zip(*events, strict=True), partitions, offsets]
    if isinstance(events[0], Recommendation):
        at = Recommendation._fields.index("track")
        columns[at] = [None if track < 0 else track for track in columns[at]]
    arrays = [_array(field.type, values) for field, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(type_: pa.DataType, values: Sequence[Any]) -> pa.Array:
    if not pa.types.is_map(type_):
        return pa.array(values, type_)
    # three times as fast as pa.array, which needs a list of pairs for each row
    ends = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(mapping) for mapping in values], out=ends[1:])
    keys = pa.array([key for mapping in values for key in mapping], type_.key_type)
    items = pa.array([item for mapping in values for item in mapping.values()], type_.item_type)
    return pa.MapArray.from_arrays(ends, keys, items)
