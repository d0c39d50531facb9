"""Folding in columns; importing this loads numba."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from botify.core.kafka.reader import LogRecord
from botify.core.kafka.record_columns import RecordColumns, read_batches
from botify.schemas.codec import Codec
from botify.schemas.event_time import EventTime
from botify.schemas.events import Listen, TrainingBatch
from botify.schemas.listen_columns import ListenColumns, accept_listens
from botify.schemas.training import training_batches_of_columns
from botify.schemas.validation import Intake, Rejected
from botify.streams.folds.columns.partition import ColumnFold
from botify.streams.folds.partition import PROJECTIONS, Fold
from botify.streams.folds.popularity import TrackRows
from botify.streams.worker.folding import ByListen


class ByColumns(ByListen):
    """Folds columns of listens."""

    def open(self, partition: int, only: Collection[str], rows: TrackRows | None, *, nothing_stored: bool) -> Fold:
        return ColumnFold(partition, only, rows, nothing_stored=nothing_stored)

    def since(self, records: Sequence[Any], offset: int) -> Sequence[Any]:
        return _columns_of(records).since(offset)

    def without_value(self, records: Sequence[Any]) -> Sequence[int]:
        places: list[int] = np.flatnonzero(_columns_of(records).values[0] < 0).tolist()
        return places

    def accept(
        self, records: Sequence[Any], intake: Intake, event_time: EventTime
    ) -> tuple[ListenColumns, list[Rejected]]:
        return accept_listens(_columns_of(records), intake, event_time)

    def batches(
        self, topic_id: str, partition: int, first_offset: int, next_offset: int, kept: ListenColumns
    ) -> list[TrainingBatch]:
        return training_batches_of_columns(topic_id, partition, first_offset, next_offset, kept)


BY_COLUMNS = ByColumns()


def _columns_of(records: Sequence[Any]) -> RecordColumns:
    return records if isinstance(records, RecordColumns) else RecordColumns.of(records)


def compile_all() -> None:
    """Compile all code that the folding needs, or read it from the cache, by folding a batch, and reading its state."""
    listen = Listen("a:0", 42, 7, 0.5, 1_000, "a", 0, False, "r", {"E": "T1"}, 0.5, 1.0)
    codec = Codec()
    events = [listen, listen._replace(event_id="a:1", ended_session=True), listen._replace(event_id="b:0")]
    records = [
        LogRecord("listens", 0, offset, 1_000, b"42", codec.encode(event), ()) for offset, event in enumerate(events)
    ]
    fold = ColumnFold(0, PROJECTIONS, nothing_stored=True)
    columns, _ = accept_listens(RecordColumns.of(records), Intake(codec), fold.event_time)
    fold.missing(columns)
    fold.fold(columns)
    stored, loaded = fold.take_changes().hashes, ColumnFold(0, PROJECTIONS)
    for name in loaded.hashes_read_at_claim:
        loaded.load_fields(name, stored[name])
    read_batches("listens", 0, b"", 0)
