"""What was read of a topic and is not yet written."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from analytics.export.decoding import BatchDecoder
from analytics.export.directory import ExportDirectory


class Chunk:
    """Rows in memory, and how far in the topic they go.

    Parameters
    ----------
    decoder : BatchDecoder
    """

    def __init__(self, decoder: BatchDecoder[Any]) -> None:
        self._decoder = decoder
        self._start_anew()

    def _start_anew(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._next_offsets: dict[int, int] = {}
        self._rejected_before = self._decoder.rejected
        self._since = time.monotonic()
        self.rows = 0

    @property
    def age_s(self) -> float:
        """For how long the first record has waited; 0 where nothing does."""
        return time.monotonic() - self._since if self._next_offsets else 0.0

    def add(self, messages: Sequence[Message]) -> None:
        """Decode records; they come in order within each partition."""
        if not self._next_offsets:
            self._since = time.monotonic()
        for message in messages:
            self._next_offsets[message.partition()] = message.offset() + 1
        batch = self._decoder.decode(messages)
        self._batches.append(batch)
        self.rows += batch.num_rows

    def commit_to(self, directory: ExportDirectory) -> None:
        """Write what there is, also where all of it was rejected: it must not be read again."""
        if not self._next_offsets:
            return
        table = pa.Table.from_batches(self._batches, self._decoder.schema)
        directory.commit(table, self._next_offsets, self._decoder.rejected - self._rejected_before)
        self._start_anew()
