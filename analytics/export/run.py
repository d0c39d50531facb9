"""Reading a topic into a folder of Parquet files."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from confluent_kafka import Message

from analytics.export.bounds import TopicBounds
from analytics.export.chunk import Chunk
from analytics.export.decoding import BatchDecoder
from analytics.export.directory import open_directory
from analytics.export.errors import ExportError
from analytics.export.manifest import Manifest, Source
from schemas.events import Event, Listen, Recommendation, RecommendationRequest, Session
from schemas.position import EARLIEST, LATEST, Position
from schemas.registry import codec_of
from schemas.rejected_before import RejectedBefore
from schemas.settings import Settings
from schemas.stopping import Stopping
from schemas.topic_reader import TopicReader
from schemas.topics import TopicDefinition

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
    begin : Position
        Where a new export begins; one that is there goes on from where it is.
    end : Position
    follow : bool
        Whether to go on after the end, until told to stop.
    """

    begin: Position = EARLIEST
    end: Position = LATEST
    follow: bool = False


def export_topic(
    settings: Settings,
    definition: TopicDefinition,
    path: Path,
    extent: Extent = Extent(),
    on_progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
    stopping: Stopping = lambda: False,
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
        `TopicBounds.check_reachable`).
    TopicError
        The topic does not exist, or the broker stops answering.
    """
    event, time_column = _timed(definition)
    bounds = TopicBounds.of(settings, definition.name)
    source = Source(definition.name, bounds.topic_id, event.__name__)
    with open_directory(path, source, bounds.offsets_of(extent.begin, settings), time_column) as directory:
        start, end = directory.manifest.next_offsets, bounds.offsets_of(extent.end, settings)
        bounds.check_reachable(start)
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


def _read(reader: TopicReader, end: Mapping[int, int], stopping: Stopping, *, follow: bool) -> Iterator[list[Message]]:
    """Yield records up to the end, and then, while following, what comes; nothing, from time to time, if none do."""
    yield from takewhile(lambda _: not stopping(), reader.read_to_end(end))
    while follow and not stopping():
        yield []
        time.sleep(POLL_S)
        yield from takewhile(lambda _: not stopping(), reader.read_to_end())
