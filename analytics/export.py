"""`botify data export`: a topic to a folder of Parquet files, incremental and exactly once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer
from confluent_kafka import Message
from rich.console import Console

from botify.analytics.botify_log import write_log
from botify.analytics.data import Erasures
from botify.analytics.exported import (
    ExportDirectory,
    ExportError,
    Manifest,
    Source,
    arrow_schema,
    open_directory,
    record_batch,
)
from botify.core.cli import progress
from botify.core.kafka.admin import (
    EARLIEST,
    LATEST,
    TopicPosition,
    TopicState,
    describe_topic,
    end_offsets,
    parse_position,
    require_kafka,
)
from botify.core.kafka.reader import TopicReader
from botify.core.process import StopRequested, stop_requested, tune_gc
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.dead_letters import RejectedBefore
from botify.schemas.events import Event, Feedback, Listen, Recommendation, RecommendationRequest, Session
from botify.schemas.registry import codec_of
from botify.schemas.topics import TopicDefinition, Topics
from botify.schemas.validation import iter_valid


def check_reachable(topic: TopicState, next_offsets: Mapping[int, int]) -> None:
    """Raise `ExportError` if records that were not exported are gone, or a partition has fewer than were exported."""
    for partition, offset in next_offsets.items():
        start, end = topic.start[partition], topic.end[partition]
        if not start <= offset <= end:
            raise ExportError(
                f"{topic.topic}[{partition}]: the export resumes at offset {offset}, but the topic holds only "
                f"{start} to {end - 1}; keep this folder as it is and export the rest into another one"
            )


class Chunk:
    """Rows in memory, and the offsets after them; no row is made of records of listeners `erased` later."""

    def __init__(
        self,
        event: type[Any],
        codec: Codec,
        rejected_before: Mapping[int, Container[int]],
        erased: Mapping[int, int],
    ) -> None:
        self._event, self._codec, self._rejected_before, self._erased = event, codec, rejected_before, erased
        self._schema = arrow_schema(event)
        self._clear()

    def _clear(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._next_offsets: dict[int, int] = {}
        self._since = time.monotonic()
        self.rows = self._rejected = 0

    @property
    def age_s(self) -> float:
        """Age of the oldest record; 0 if there is none."""
        return time.monotonic() - self._since if self._next_offsets else 0.0

    def add(self, messages: Sequence[Message]) -> None:
        """Decode records, which are in order within each partition."""
        if not self._next_offsets:
            self._since = time.monotonic()
        self._next_offsets |= {message.partition(): message.offset() + 1 for message in messages}
        valid = list(iter_valid(messages, self._event, self._codec, self._rejected_before))
        if self._erased:
            valid = [(m, event) for m, event in valid if m.timestamp()[1] > self._erased.get(event.user, -1)]
        partitions, offsets = [m.partition() for m, _ in valid], [m.offset() for m, _ in valid]
        self._batches.append(record_batch(self._schema, [event for _, event in valid], partitions, offsets))
        self.rows += len(valid)
        self._rejected += len(messages) - len(valid)

    def commit_to(self, directory: ExportDirectory) -> None:
        """Write the rows and offsets, even if all records were rejected: they must not be read again."""
        if self._next_offsets:
            directory.commit(pa.Table.from_batches(self._batches, self._schema), self._next_offsets, self._rejected)
            self._clear()


Progress = Callable[[int, int], None]

TIME_COLUMNS: Mapping[type[Event], str] = {
    Listen: "timestamp_ms",
    RecommendationRequest: "timestamp_ms",
    Recommendation: "timestamp_ms",
    Session: "ended_ms",
    Feedback: "timestamp_ms",
}
"""Events that can be exported, and the column that gives a row's day."""

COMMIT_ROWS = 500_000  # rows in memory, about 150 bytes each, at which they are written

COMMIT_S = 30.0  # longest time that a row waits in memory while the topic is followed

POLL_S = 0.5  # pause between two polls of a followed topic


@dataclass(frozen=True, slots=True)
class Extent:
    """The range of records to export."""

    begin: TopicPosition = EARLIEST  # where a new export begins; an existing one is resumed
    end: TopicPosition = LATEST
    follow: bool = False  # whether to keep exporting new records until stopped


def export_topic(
    settings: Settings,
    definition: TopicDefinition,
    path: Path,
    extent: Extent = Extent(),
    on_progress: Progress | None = None,
    commit_rows: int = COMMIT_ROWS,
    stopping: StopRequested = lambda: False,
) -> Manifest:
    """Export the records that the folder lacks; between batches `stopping` may end it, with all rows written.

    Exactly once: after any number of kills and restarts, each valid record is in exactly one file that the manifest
    names. Copies of an event, which producers may send, are separate rows.

    `definition` is of an event in `TIME_COLUMNS`. Raises `ExportError` if topic and folder do not fit together
    (`open_directory`, `check_reachable`), and `TopicError` if the topic does not exist, or the broker stops answering.
    """
    event: Any = definition.event
    end_offsets(settings, definition.name)  # reports a missing topic at once; `describe_topic` would wait for it
    topic = describe_topic(settings, definition.name)
    source = Source(definition.name, topic.topic_id, event.__name__)
    with open_directory(path, source, topic.offsets_of(extent.begin, settings), TIME_COLUMNS[event]) as directory:
        start, end = directory.manifest.next_offsets, topic.offsets_of(extent.end, settings)
        check_reachable(topic, start)
        total = sum(max(0, end[partition] - offset) for partition, offset in start.items())
        reader, rejected = TopicReader(settings, definition.name, start), RejectedBefore(settings, definition.name)
        # listens are left out by their offsets, as dead letters
        erasures = None if event is Listen else Erasures(settings)
        chunk, done = Chunk(event, codec_of(settings), rejected.offsets, erasures.at_ms if erasures else {}), 0

        def refresh() -> None:
            rejected.refresh()
            if erasures is not None:
                erasures.refresh()

        try:
            refresh()
            for messages in _read(reader, end, stopping, follow=extent.follow):
                chunk.add(messages)
                done += len(messages)
                if on_progress is not None:
                    on_progress(done, max(done, total))
                if chunk.rows >= commit_rows or chunk.age_s >= COMMIT_S:
                    chunk.commit_to(directory)
                    refresh()
            chunk.commit_to(directory)
        finally:
            for opened in (reader, rejected, erasures):
                if opened is not None:
                    opened.close()
        return directory.manifest


def _read(
    reader: TopicReader, end: Mapping[int, int], stopping: StopRequested, *, follow: bool
) -> Iterator[list[Message]]:
    """Yield batches of records up to the end, then, while following, new ones and an empty batch at each poll."""
    yield from takewhile(lambda _: not stopping(), reader.read_to_end(end))
    while follow and not stopping():
        yield []
        time.sleep(POLL_S)
        yield from takewhile(lambda _: not stopping(), reader.read_to_end())


LOG = "log.json"
LISTENS = "_listens"  # folder next to the log; readers skip names that begin with an underscore


class Format(StrEnum):
    """Format of the output."""

    PARQUET = "parquet"
    BOTIFY_LOG = "botify-log"


def export(
    out: Annotated[Path, typer.Option(help="Output folder; an existing export is resumed.")],
    topic: Annotated[
        str, typer.Option(help="Topic: listens, recommendation-requests, recommendations, sessions or feedback.")
    ] = ("listens"),
    begin: Annotated[
        str, typer.Option("--from", help="First record: earliest, offset:N, ts:2026-01-31T12:00:00Z or duration:PT1H.")
    ] = "earliest",
    end: Annotated[
        str, typer.Option("--to", help="End of the records: latest, offset:N or ts:2026-01-31T12:00:00Z.")
    ] = "latest",
    follow: Annotated[bool, typer.Option("--follow", help="Keep exporting new records until Ctrl-C.")] = False,
    format_: Annotated[
        Format,
        typer.Option(
            "--format", help=f"parquet, or botify-log: {LOG} in the course's JSON, from the Parquet in {LISTENS}."
        ),
    ] = Format.PARQUET,
) -> None:
    """Export a topic to files partitioned by day, exactly once even if the export is killed and resumed."""
    now_ms = int(time.time() * 1000)
    extent = Extent(parse_position(begin, now_ms), parse_position(end, now_ms), follow)
    settings = require_kafka(Settings.from_env())
    definition = _definition(settings, topic)
    if format_ is Format.BOTIFY_LOG and definition.event is not Listen:
        raise ExportError(f"Botify's log is made of listens; omit --topic {topic}")
    folder = out if format_ is Format.PARQUET else out / LISTENS
    tune_gc()
    # on a signal, rows in memory are written before the export ends
    with stop_requested(signal.SIGINT, signal.SIGTERM) as stopping, progress("exporting") as bar:
        manifest = export_topic(settings, definition, folder, extent, bar.to, stopping=stopping)
    left_out = f", {manifest.rejected:,} dead letters left out" if manifest.rejected else ""
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"{folder}: {manifest.rows:,} rows in {len(manifest.files):,} files{left_out}")
    if format_ is Format.BOTIFY_LOG:
        with progress("writing the log"):
            log = write_log(folder, out / LOG)
        left_out = f", {log.left_out:,} listens without a treatment left out" if log.left_out else ""
        console.print(f"{out / LOG}: {log.lines:,} lines{left_out}")


def _definition(settings: Settings, name: str) -> TopicDefinition:
    prefix = f"{settings.topic_prefix}."
    known = {d.name.removeprefix(prefix): d for d in Topics.of(settings).all() if d.event in TIME_COLUMNS}
    if name.removeprefix(prefix) not in known:
        raise ExportError(f"topic {name!r} cannot be exported; choose one of {', '.join(known)}")
    return known[name.removeprefix(prefix)]
