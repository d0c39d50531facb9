"""Reading a topic into a folder of Parquet files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

import pyarrow as pa
from confluent_kafka import Message

from analytics.export.columns import BatchDecoder
from analytics.export.files import ExportDirectory, ExportError, Manifest, Source, open_directory
from core.kafka.admin import end_offsets
from core.kafka.offsets import EARLIEST, LATEST, TopicPosition, TopicState, describe_topic
from core.kafka.reader import TopicReader
from core.process import StopRequested
from core.settings import Settings
from schemas.dead_letters import RejectedBefore
from schemas.events import Event, Listen, Recommendation, RecommendationRequest, Session
from schemas.registry import codec_of
from schemas.topics import TopicDefinition


def check_reachable(topic: TopicState, next_offsets: Mapping[int, int]) -> None:
    """Refuse to resume where records are gone: rows would be missing.

    Raises
    ------
    ExportError
        Of a partition, records that were not exported are gone, or fewer are there than were exported.

    Examples
    --------
    >>> check_reachable(TopicState("botify.listens", "an-id", start={0: 20}, end={0: 50}), {0: 10})
    Traceback (most recent call last):
    analytics.export.files.ExportError: botify.listens[0]: the export resumes at offset 10, but the topic holds \
only 20 to 49; keep this folder as it is and export the rest into another one
    """
    for partition, offset in next_offsets.items():
        start, end = topic.start[partition], topic.end[partition]
        if not start <= offset <= end:
            raise ExportError(
                f"{topic.topic}[{partition}]: the export resumes at offset {offset}, but the topic holds only "
                f"{start} to {end - 1}; keep this folder as it is and export the rest into another one"
            )


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


Progress = Callable[[int, int], None]

TIME_COLUMNS: Mapping[type[Event], str] = {
    Listen: "timestamp_ms",
    RecommendationRequest: "timestamp_ms",
    Recommendation: "timestamp_ms",
    Session: "ended_ms",
}
"""What can be exported, and the column whose day a row belongs to."""

COMMIT_ROWS = 500_000
"""Rows that are kept in memory, some 150 bytes each, before they are written."""

COMMIT_S = 30.0
"""How long a row waits at most while the topic is followed."""

POLL_S = 0.5
"""Between two looks at a topic that is followed."""


@dataclass(frozen=True, slots=True)
class Extent:
    """What is to be read.

    Attributes
    ----------
    begin : TopicPosition
        Where a new export begins; one that is there goes on from where it is.
    end : TopicPosition
    follow : bool
        Whether to go on after the end, until told to stop.
    """

    begin: TopicPosition = EARLIEST
    end: TopicPosition = LATEST
    follow: bool = False


def export_topic(
    settings: Settings,
    definition: TopicDefinition,
    path: Path,
    extent: Extent = Extent(),
    on_progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
    stopping: StopRequested = lambda: False,
) -> Manifest:
    """Export what the folder lacks.

    Exactly once: killed at any moment and run again, every good record is in exactly one file that the manifest
    names. Copies of an event, which producers may send, are rows of their own.

    Parameters
    ----------
    definition : TopicDefinition
        Of a topic whose event is in `TIME_COLUMNS`.
    path : Path
        The folder.
    extent : Extent
    on_progress : callable, optional
        Told how many records were read, and how many there are to be read.
    commit_rows : int
        Rows in memory before they are written.
    stopping : callable, optional
        Asked after every batch, and from time to time while following, whether to write what there is and end.

    Raises
    ------
    ExportError
        The topic's events have no time, or topic and folder do not fit together (`open_directory`,
        `check_reachable`).
    TopicError
        The topic does not exist, or the broker stops answering.
    """
    event, time_column = _timed(definition)
    end_offsets(settings, definition.name)  # reports a missing topic at once; `describe_topic` would wait for it
    topic = describe_topic(settings, definition.name)
    source = Source(definition.name, topic.topic_id, event.__name__)
    with open_directory(path, source, topic.offsets_of(extent.begin, settings), time_column) as directory:
        start, end = directory.manifest.next_offsets, topic.offsets_of(extent.end, settings)
        check_reachable(topic, start)
        total = sum(max(0, end[partition] - offset) for partition, offset in start.items())
        reader, rejected = TopicReader(settings, definition.name, start), RejectedBefore(settings, definition.name)
        chunk, done = Chunk(BatchDecoder(event, codec_of(settings), rejected.offsets)), 0
        try:
            rejected.refresh()
            for messages in _read(reader, end, stopping, follow=extent.follow):
                chunk.add(messages)
                done += len(messages)
                if on_progress is not None:
                    on_progress(done, max(done, total))
                if chunk.rows >= commit_rows or chunk.age_s >= COMMIT_S:
                    chunk.commit_to(directory)
                    rejected.refresh()
            chunk.commit_to(directory)
        finally:
            reader.close()
            rejected.close()
        return directory.manifest


def _timed(definition: TopicDefinition) -> tuple[type[Event], str]:
    if definition.event is None or definition.event not in TIME_COLUMNS:
        raise ExportError(f"the records of {definition.name} have no time to sort them into days")
    return definition.event, TIME_COLUMNS[definition.event]


def _read(
    reader: TopicReader, end: Mapping[int, int], stopping: StopRequested, *, follow: bool
) -> Iterator[list[Message]]:
    """Yield records up to the end, and then, while following, what comes; nothing, from time to time, if none do."""
    yield from takewhile(lambda _: not stopping(), reader.read_to_end(end))
    while follow and not stopping():
        yield []
        time.sleep(POLL_S)
        yield from takewhile(lambda _: not stopping(), reader.read_to_end())
