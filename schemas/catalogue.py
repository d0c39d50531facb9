"""The catalogue: followed on its topic, read once, and the tracks sent that the topic lacks."""

import fcntl
import logging
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import Message
from confluent_kafka.admin import AdminClient

from botify.core.errors import DecodeError
from botify.core.kafka.admin import end_offsets, read_topic_id
from botify.core.kafka.config import common_config, key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.kafka.reader import FOLLOW_MS, TopicReader
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.topics import Topics
from botify.schemas.track_columns import EMPTY, ColumnsError, TrackColumns, read_columns, write_columns
from botify.schemas.track_table import TrackTable

log = logging.getLogger(__name__)

BATCH = 10_000  # tracks that are encoded before they are sent
LARGE = 10_000  # records of a topic whose columns are kept in a file; fewer are read again in a moment
RECENT_SHARE = 8  # columns are made when at least `LARGE` tracks, and one in this many, are not in them
PREFETCH_KB = 8 * 1024

Offsets = dict[int, int]


class CatalogueReader:
    """Follows the catalogue topic. Tracks are added or renamed, never removed: a deleted one is marked so.

    The columns of a large catalogue are kept in a file under `Settings.home`, which the processes of a machine share: a
    reader that starts reads from the topic only what came after it. A record that is no `Track` is skipped with a
    warning: it would stop every reader until it is overwritten.
    """

    def __init__(self, settings: Settings, codec: Codec) -> None:
        topic = Topics.of(settings).catalogue.name
        ends = end_offsets(settings, topic)
        self._read_already = 0
        if sum(ends.values()) < LARGE:
            self._open(settings, topic, codec, EMPTY, {}, ends)
            return
        topic_id = read_topic_id(AdminClient(common_config(settings)), topic)
        file = CatalogueFile(settings.home / "cache", topic, topic_id)
        with file.locked():  # of processes that start together one reads the topic, and the others its file
            columns, offsets = file.read(ends)
            in_file = sum(offsets.values())
            self._open(settings, topic, codec, columns, offsets, ends)
            self._read_already = len(columns) + self._read()
            reached = self._reader.next_offsets
            if sum(reached.values()) >= in_file + LARGE:
                self.tracks.replace_columns(file.write(self.tracks.columns(), reached))

    def _open(
        self, settings: Settings, topic: str, codec: Codec, columns: TrackColumns, offsets: Offsets, ends: Offsets
    ) -> None:
        self._codec = codec
        self.tracks = TrackTable(codec, columns)
        self._reader = TopicReader(
            settings, topic, offsets, ends, wait_ms=FOLLOW_MS, queued_max_messages_kbytes=PREFETCH_KB
        )

    def refresh(self) -> int:
        """Read the records added since the last call, and return their number; raises `TopicError`."""
        before, self._read_already = self._read_already, 0
        return before + self._read()

    def take_arrived(self) -> int:
        """Add the records that have arrived, and return their number; raises `TopicError`."""
        return self._take(self._reader.read_arrived())

    def close(self) -> None:
        self._reader.close()

    def _read(self) -> int:
        return self._take(self._reader.read_to_end())

    def _take(self, batches: Iterable[Sequence[Message]]) -> int:
        records = 0
        for batch in batches:
            messages = [message for message in batch if message.value() is not None]  # a tombstone removes no track
            values = [message.value() for message in messages]
            tracks, good = [], []
            decoded = self._codec.decode_many(values, Track)
            for message, value, track in zip(messages, values, decoded, strict=True):
                if isinstance(track, DecodeError):
                    log.warning("%s[%d] offset %d: %s", message.topic(), message.partition(), message.offset(), track)
                else:
                    tracks.append(track)
                    good.append(value)
            self.tracks.add(tracks, good)
            if self.tracks.recent > max(LARGE, len(self.tracks) // RECENT_SHARE):
                self.tracks.columns()
            records += len(batch)
        return records


class CatalogueFile:
    """Columns of a topic up to an offset of each partition, in a file next to the data of a deployment.

    A file that is damaged, of another topic of the name, or ahead of the topic is as good as none: it is made again.
    """

    def __init__(self, directory: Path, topic: str, topic_id: str) -> None:
        self._path = directory / f"{topic}.columns"
        self._topic_id = topic_id

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process of the machine reads the topic into the file."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            lock = self._path.with_suffix(".lock").open("w")
        except OSError as error:  # a file system that is read-only: each process reads the topic
            log.warning("%s: the catalogue is read from its topic at each start", error)
            yield
            return
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def read(self, ends: Offsets) -> tuple[TrackColumns, Offsets]:
        """Return the columns, and up to where they have the topic; empty ones if there is no usable file."""
        try:
            with self._path.open("rb") as file:
                about, columns = read_columns(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), check=True)
            offsets = {int(partition): offset for partition, offset in about["offsets"].items()}
            is_of_topic = about["topic_id"] == self._topic_id and offsets.keys() == ends.keys()
        except FileNotFoundError:
            return EMPTY, {}
        except (OSError, ValueError, KeyError, AttributeError) as error:
            log.warning("%s cannot be used (%s); the topic is read again", self._path, error)
            return EMPTY, {}
        if not is_of_topic or any(offsets[partition] > end for partition, end in ends.items()):
            return EMPTY, {}
        return columns, offsets

    def write(self, columns: TrackColumns, offsets: Offsets) -> TrackColumns:
        """Write columns, and return those of the file; those given if it cannot be written."""
        about = {"topic_id": self._topic_id, "offsets": offsets}
        unfinished = self._path.with_suffix(".unfinished")
        try:
            with unfinished.open("w+b") as file:
                write_columns(file, about, columns.arrays())
                file.flush()
                kept = read_columns(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))[1]
            unfinished.replace(self._path)  # not synced: what a power cut leaves does not have its checksum
        except (OSError, ColumnsError) as error:
            log.warning("%s cannot be written (%s)", self._path, error)
            return columns
        columns.release()
        kept.release()
        return kept


def read_catalogue(settings: Settings, codec: Codec) -> TrackTable:
    """Return all tracks that the topic holds now; raises as `CatalogueReader.refresh`."""
    reader = CatalogueReader(settings, codec)
    try:
        reader.refresh()
    finally:
        reader.close()
    return reader.tracks


def send_missing_tracks(
    publisher: RecordPublisher, topic: str, codec: Codec, tracks: Iterable[Track], held: Mapping[int, Track]
) -> int:
    """Send the tracks that the topic does not hold, or holds with other fields; return how many. The caller flushes.

    At least once and idempotent: the topic is compacted by track, and writing a track again changes nothing.
    """
    missing = [track for track in tracks if held.get(track.track) != track]
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        publisher.send_batch(topic, [{"key": key_of(track.track), "value": codec.encode(track)} for track in batch])
    return len(missing)
