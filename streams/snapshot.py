"""Snapshots: save a namespace to a file, and load it into a new namespace.

The file is written and read frame by frame, without pickle. Inside gzip are `MAGIC`, then frames: kind u8 | length
u32 | payload, little-endian. The kinds, in this order::

    HEADER     JSON: format, topic, topic_id, namespace, partitions, created_ms, partial, excluded, feedback_id
    PARTITION  JSON: partition, next_offset, first_offset, of_feedback   (then its collections)
    FIELDS     name of the collection: length u8, UTF-8; then field: length u32, bytes; value: length u32, bytes; …
    SCORES     name of the collection likewise; then member: length u32, bytes; score f64; …
    END        SHA-256 of everything before

Each partition of the listens begins a member of the gzip file; `_INDEX`, in an empty first one, says where.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import time
import zlib
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from botify.core.errors import BotifyError
from botify.streams.folds.partition import HASHES, PROJECTIONS, SCORE_SETS
from botify.streams.replay.sources import ReplaySources
from botify.streams.store.keys import checkpoint_key, feedback_of, partition_key
from botify.streams.store.namespaces import NamespaceRecord, NamespaceRecords, checkpoints, live_namespace
from botify.streams.store.protocol import Items
from botify.streams.store.redis_store import NOT_OF_THIS_TOPIC, point_in_time_copy


class SnapshotError(BotifyError):
    """A snapshot cannot be written, or cannot be loaded here."""


MAGIC = b"BOTIFY-SNAPSHOT\n"
VERSION = 2  # version 1 has no partitions of the feedback: a swap folds them from the topic
MAX_FRAME_BYTES = 1 << 30

_FRAME = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
_SCORE = struct.Struct("<d")
# RFC 1952: magic, method, FEXTRA, no time, system | XLEN, then a subfield: name, length, and a u64 for each partition
_INDEX = struct.Struct("<4s4x2sH2sH")
_GZIP, _FAST, _EMPTY = b"\x1f\x8b\x08\x04", b"\x04\xff", b"\x03" + bytes(9)
MOST_INDEXED = 8_000  # partitions; the header's field has at most 64 KiB


class Kind(IntEnum):
    """What a frame holds."""

    HEADER = 1
    PARTITION = 2
    FIELDS = 3
    SCORES = 4
    END = 5


class Frame(NamedTuple):
    """A frame as read: JSON, or a collection's name with some of its items."""

    kind: Kind
    about: Mapping[str, Any]
    collection: str
    items: Items


class SnapshotWriter:
    """Writes frames, with an index of the first partitions; `end` completes the file."""

    def __init__(self, file: IO[bytes], partitions: int = 0) -> None:
        self._file, self._begins = file, [0] * min(partitions, MOST_INDEXED)
        self._write_index()
        self._zip = self._member()
        self._sha = hashlib.sha256()
        self._write(MAGIC)

    def _write_index(self) -> None:
        count, begins = len(self._begins), struct.pack(f"<{len(self._begins)}Q", *self._begins)
        self._file.write(_INDEX.pack(_GZIP, _FAST, 8 * count + 4, b"BI", 8 * count) + begins + _EMPTY)

    def _member(self) -> gzip.GzipFile:
        return gzip.GzipFile(filename="", fileobj=self._file, mode="wb", compresslevel=1, mtime=0)

    def about(self, kind: Kind, about: Mapping[str, Any]) -> None:
        if kind is Kind.PARTITION and not about.get("of_feedback") and about["partition"] < len(self._begins):
            self._zip.close()
            self._begins[about["partition"]] = self._file.tell()
            self._zip = self._member()
        self._frame(kind, json.dumps(about).encode())

    def items(self, collection: str, items: Items) -> None:
        name = collection.encode()
        parts = [bytes([len(name)]), name]
        for item, value in items.items():
            packed = _SCORE.pack(value) if isinstance(value, float) else _LENGTH.pack(len(value)) + value
            parts += (_LENGTH.pack(len(item)), item, packed)
        self._frame(Kind.SCORES if collection in SCORE_SETS else Kind.FIELDS, b"".join(parts))

    def end(self) -> None:
        self._frame(Kind.END, self._sha.digest())
        self._zip.close()
        self._file.seek(0)
        self._write_index()

    def _frame(self, kind: Kind, payload: bytes) -> None:
        self._write(_FRAME.pack(kind, len(payload)) + payload)

    def _write(self, raw: bytes) -> None:
        self._sha.update(raw)
        self._zip.write(raw)


def read_frames(path: Path) -> Generator[Frame]:
    """Yield the frames before END, and verify the checksum at the end: until then, frames may be damaged.

    Raises `SnapshotError` if the file is no snapshot, of an unknown version, truncated, or damaged.
    """
    with _errors_of(path), gzip.open(path, "rb") as file:
        _begin(file)
        sha = hashlib.sha256(MAGIC)
        for kind, payload in _payloads(file):
            if kind is Kind.END:
                if payload != sha.digest():
                    raise ValueError("the checksum does not match")
                if file.read(1):  # also makes gzip check that its own end is there
                    raise ValueError("there is data after its end")
                return
            sha.update(_FRAME.pack(kind, len(payload)) + payload)
            frame = _parse(kind, payload)
            if kind is Kind.HEADER and frame.about["format"] not in (1, VERSION):
                raise SnapshotError(f"{path} has format {frame.about['format']}; this version reads {VERSION}")
            yield frame


def read_partition(path: Path, partition: int, holding: bytes) -> Generator[Frame]:
    """Yield the frame of a partition of the listens, and those of its collections that hold some bytes.

    The checksum is not verified. Of a file with an index, no other partition is read. Raises `SnapshotError`.
    """
    with _errors_of(path), path.open("rb") as raw:
        begins = _read_index(raw)
        at = begins[partition] if partition < len(begins) else 0
        raw.seek(at)
        with gzip.GzipFile(fileobj=raw) as file:
            if not at:
                _begin(file)
            inside = False
            for kind, payload in _payloads(file):
                if kind is Kind.END or (inside and kind is Kind.PARTITION):
                    return
                if kind is Kind.PARTITION:
                    frame = _parse(kind, payload)
                    inside = frame.about["partition"] == partition and not frame.about.get("of_feedback", False)
                    if inside:
                        yield frame
                elif inside and holding in payload:
                    yield _parse(kind, payload)


@contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise SnapshotError(f"file {path} does not exist") from error
    except (OSError, EOFError, zlib.error, struct.error, ValueError, KeyError) as error:
        raise SnapshotError(f"{path} is not a snapshot, or is damaged: {type(error).__name__}: {error}") from error


def _begin(file: gzip.GzipFile) -> None:
    if _exactly(file, len(MAGIC)) != MAGIC:
        raise ValueError("it does not begin like one")


def _read_index(raw: IO[bytes]) -> Sequence[int]:
    """Return where partitions begin; nothing of a file that has no index."""
    head = raw.read(_INDEX.size)
    if len(head) < _INDEX.size:
        return ()
    flags, _, _, name, length = _INDEX.unpack(head)
    return struct.unpack(f"<{length // 8}Q", _exactly(raw, length)) if (flags, name) == (_GZIP, b"BI") else ()


def _payloads(file: gzip.GzipFile) -> Iterator[tuple[Kind, bytes]]:
    while True:
        code, length = _FRAME.unpack(_exactly(file, _FRAME.size))
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes")
        yield Kind(code), _exactly(file, length)


def _exactly(file: IO[bytes] | gzip.GzipFile, count: int) -> bytes:
    raw = file.read(count)
    if len(raw) != count:
        raise EOFError("it ends too early")
    return raw


def _parse(kind: Kind, payload: bytes) -> Frame:
    if kind in (Kind.HEADER, Kind.PARTITION):
        return Frame(kind, json.loads(payload), "", {})
    at = 1 + payload[0]
    name = payload[1:at].decode()
    items: dict[bytes, bytes | float] = {}
    while at < len(payload):
        item, at = _take(payload, at)
        if kind is Kind.FIELDS:
            items[item], at = _take(payload, at)
        else:
            (items[item],) = _SCORE.unpack_from(payload, at)
            at += _SCORE.size
    return Frame(kind, {}, name, items)


def _take(payload: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(payload, at)
    start = at + _LENGTH.size
    return payload[start : start + length], start + length


async def save(sources: ReplaySources, path: Path, namespace: str | None = None) -> dict[int, int]:
    """Write the file of a namespace, by default the live one, atomically; return the checkpoint of each partition.

    Raises `SnapshotError` if the namespace has no state, or is of another topic.
    """
    prefix = sources.settings.topic_prefix
    chosen = namespace or await live_namespace(sources.redis, prefix)
    if not any((await checkpoints(sources.redis, chosen, sources.state.end)).values()):
        raise SnapshotError(f"namespace {chosen} has no state; `botify replay status` names those that have")
    record = await NamespaceRecords(sources.redis, prefix).find(chosen)
    unfinished = path.with_name(f"{path.name}.new")
    try:
        with unfinished.open("wb") as file:
            reached = await _write(sources, chosen, record, file)
        unfinished.replace(path)
    except OSError as error:
        raise SnapshotError(f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return reached


async def _write(
    sources: ReplaySources, namespace: str, record: NamespaceRecord | None, file: IO[bytes]
) -> dict[int, int]:
    writer, reached = SnapshotWriter(file, len(sources.state.end)), dict[int, int]()
    about = {
        "format": VERSION,
        "topic": sources.topic,
        "topic_id": sources.state.topic_id,
        "namespace": namespace,
        "partitions": len(sources.state.end),
        "created_ms": int(time.time() * 1000),
        "partial": list(record.partial) if record else [],
        "excluded": dict(record.excluded) if record else {},
        "feedback_id": sources.feedback and sources.feedback.state.topic_id,
    }
    writer.about(Kind.HEADER, about)
    for partition in sources.state.end:
        reached[partition] = await _write_partition(writer, sources, namespace, partition)
    if (feedback := sources.feedback) is not None:
        for partition in feedback.state.end:
            await _write_partition(writer, feedback, feedback_of(namespace), partition, of_feedback=True)
    writer.end()
    return reached


async def _write_partition(
    writer: SnapshotWriter, sources: ReplaySources, namespace: str, partition: int, *, of_feedback: bool = False
) -> int:
    async with point_in_time_copy(sources.redis, namespace, partition) as state:
        if state.topic_id not in (None, sources.state.topic_id):
            raise SnapshotError(f"namespace {namespace} is of topic id {state.topic_id}, not of {sources.topic}")
        offsets = {"next_offset": state.next_offset, "first_offset": state.first_offset, "letters": state.letters}
        writer.about(Kind.PARTITION, {"partition": partition, **offsets, "of_feedback": of_feedback})
        for name in (*HASHES, *SCORE_SETS):
            async for items in state.contents.pages(partition, name):
                writer.items(name, items)
    return state.next_offset or 0


async def load(sources: ReplaySources, path: Path, *, other_topic: bool = False) -> NamespaceRecord:
    """Check the whole file, then load it; `botify replay swap` makes the namespace live.

    `other_topic` accepts the state of a topic that is gone, which the listens of the current topic then follow. Raises
    `SnapshotError` if the file is damaged, of another topic, or of another number of partitions.
    """
    header, found, said = _check(path)
    offsets = _fitting(sources, path, header["topic_id"], found, other_topic=other_topic)
    if (feedback := sources.feedback) is not None and said:
        said = _fitting(feedback, path, header["feedback_id"], said, other_topic=other_topic)
    records = NamespaceRecords(sources.redis, sources.settings.topic_prefix)
    record = await records.begin(
        "s",
        start={partition: first for partition, (_, first) in offsets.items()},
        end={partition: reached or 0 for partition, (reached, _) in offsets.items()},
        projections=PROJECTIONS,
        partial=header["partial"],
        excluded={int(partition): count for partition, count in header.get("excluded", {}).items()},
        layout=sources.settings.layout,
        partitions=len(sources.state.end),
    )
    await _load(sources, path, record.namespace, offsets, said)
    record = record.with_(done=True)
    await records.put(record)
    return record


Offsets = Mapping[int, tuple[int | None, int]]  # partition -> (next offset, first offset)


def _check(path: Path) -> tuple[Mapping[str, Any], Offsets, Offsets]:
    header: Mapping[str, Any] = {}
    offsets: dict[bool, dict[int, tuple[int | None, int]]] = {False: {}, True: {}}
    for frame in read_frames(path):
        if frame.kind is Kind.HEADER:
            header = frame.about
        elif frame.kind is Kind.PARTITION:
            about = frame.about
            of_topic = offsets[about.get("of_feedback", False)]
            of_topic[about["partition"]] = (about["next_offset"], about["first_offset"])
    if not header:
        raise SnapshotError(f"{path} has no header")
    return header, offsets[False], offsets[True]


def _fitting(sources: ReplaySources, path: Path, topic_id: str, offsets: Offsets, *, other_topic: bool) -> Offsets:
    topic, state = sources.topic, sources.state
    if len(offsets) != len(state.end):
        raise SnapshotError(
            f"{path} has {len(offsets)} partitions, {topic} has {len(state.end)}: a listener's state would belong to "
            "another partition. Replay the topic instead."
        )
    if topic_id == state.topic_id:
        return offsets
    if not other_topic:
        raise SnapshotError(
            f"{path} is of the topic with id {topic_id}; {topic} here has {state.topic_id}. --other-topic lets the "
            "records of this topic continue that state"
        )
    return {p: (state.start[p], NOT_OF_THIS_TOPIC) for p in offsets}


async def _load(sources: ReplaySources, path: Path, namespace: str, offsets: Offsets, said: Offsets) -> None:
    partition, into = 0, namespace
    for frame in read_frames(path):
        if frame.kind is Kind.PARTITION:
            partition = frame.about["partition"]
            into = feedback_of(namespace) if frame.about.get("of_feedback") else namespace
            letters, begun = frame.about.get("letters"), said if frame.about.get("of_feedback") else offsets
            if letters is not None and begun[partition][1] != NOT_OF_THIS_TOPIC:
                await sources.redis.hset(checkpoint_key(into, partition), "letters", json.dumps(letters))
        elif frame.kind is not Kind.HEADER:
            await _put(sources.redis, partition_key(into, partition, frame.collection), frame)
    # checkpoints are last, so an incomplete namespace has none and is not mistaken for a complete one
    feedback = sources.feedback or sources
    for of_topic, into, reached_at in ((feedback, feedback_of(namespace), said), (sources, namespace, offsets)):
        for partition, (reached, first) in reached_at.items():
            if reached is not None:
                checkpoint = {"next_offset": reached, "first_offset": first, "topic_id": of_topic.state.topic_id}
                await sources.redis.hset(checkpoint_key(into, partition), mapping=checkpoint)


async def _put(redis: Any, key: str, frame: Frame) -> None:
    if not frame.items:
        return
    if frame.kind is Kind.FIELDS:
        await redis.hset(key, mapping=frame.items)
    else:
        # repr gives the shortest text that reads back as the same double
        await redis.zadd(key, {member: repr(score) for member, score in frame.items.items()})
