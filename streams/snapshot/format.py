"""The file: compressed frames, read and written one after the other. No pickle, and nothing is kept in memory.

Inside gzip stand `MAGIC`, then frames: kind u8 | length u32 | payload, little-endian. The kinds, in this order::

    HEADER     JSON: format, topic, topic_id, namespace, partitions, created_ms, partial, excluded
    PARTITION  JSON: partition, next_offset, first_offset   (then its collections)
    FIELDS     name of the collection: length u8, UTF-8; then field: length u32, bytes; value: length u32, bytes; …
    SCORES     name of the collection likewise; then member: length u32, bytes; score f64; …
    END        SHA-256 of everything before
"""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import IO, Any, NamedTuple

from streams.snapshot.errors import SnapshotError

MAGIC = b"BOTIFY-SNAPSHOT\n"
VERSION = 1
MAX_FRAME_BYTES = 1 << 30

_FRAME = struct.Struct("<BI")
_LENGTH = struct.Struct("<I")
_SCORE = struct.Struct("<d")


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
    items: Mapping[bytes, bytes] | Mapping[bytes, float]


class SnapshotWriter:
    """Writes frames; `end` makes the file whole."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=1, mtime=0)
        self._sha = hashlib.sha256()
        self._write(MAGIC)

    def about(self, kind: Kind, about: Mapping[str, Any]) -> None:
        """Write a HEADER or PARTITION."""
        self._frame(kind, json.dumps(about).encode())

    def fields(self, collection: str, items: Mapping[bytes, bytes]) -> None:
        """Write some fields of a hash."""
        parts = [_name(collection)]
        for field, value in items.items():
            parts += (_LENGTH.pack(len(field)), field, _LENGTH.pack(len(value)), value)
        self._frame(Kind.FIELDS, b"".join(parts))

    def scores(self, collection: str, items: Mapping[bytes, float]) -> None:
        """Write some members of a sorted set."""
        parts = [_name(collection)]
        for member, score in items.items():
            parts += (_LENGTH.pack(len(member)), member, _SCORE.pack(score))
        self._frame(Kind.SCORES, b"".join(parts))

    def end(self) -> None:
        """Write the checksum and finish the compression."""
        self._frame(Kind.END, self._sha.digest())
        self._zip.close()

    def _frame(self, kind: Kind, payload: bytes) -> None:
        self._write(_FRAME.pack(kind, len(payload)) + payload)

    def _write(self, raw: bytes) -> None:
        self._sha.update(raw)
        self._zip.write(raw)


def read_frames(path: Path) -> Iterator[Frame]:
    """Yield the frames before END, and hold the checksum against what was read.

    Raises
    ------
    SnapshotError
        The file is no snapshot, of a version that this code does not know, cut off, or damaged. What was yielded
        before may be damaged too: read the file once to the end before anything is believed.
    """
    try:
        with gzip.open(path, "rb") as file:
            yield from _frames(file, path)
    except FileNotFoundError as error:
        raise SnapshotError(f"there is no file {path}") from error
    except (OSError, EOFError, zlib.error, struct.error, ValueError, KeyError) as error:
        raise SnapshotError(f"{path} is no snapshot, or a damaged one: {type(error).__name__}: {error}") from error


def _frames(file: gzip.GzipFile, path: Path) -> Iterator[Frame]:
    sha = hashlib.sha256()

    def read(count: int) -> bytes:
        raw = file.read(count)
        if len(raw) != count:
            raise EOFError("it ends too early")
        return raw

    if (magic := read(len(MAGIC))) != MAGIC:
        raise ValueError("it does not begin like one")
    sha.update(magic)
    while True:
        head = read(_FRAME.size)
        code, length = _FRAME.unpack(head)
        if length > MAX_FRAME_BYTES:
            raise ValueError(f"a frame of {length} bytes")
        payload, kind = read(length), Kind(code)
        if kind is Kind.END:
            if payload != sha.digest():
                raise ValueError("the checksum does not fit")
            if file.read(1):  # also makes gzip check that its own end is there
                raise ValueError("something follows its end")
            return
        sha.update(head + payload)
        frame = _parse(kind, payload)
        if kind is Kind.HEADER and frame.about["format"] != VERSION:
            raise SnapshotError(f"{path} has format {frame.about['format']}; this version reads {VERSION}")
        yield frame


def _parse(kind: Kind, payload: bytes) -> Frame:
    if kind in (Kind.HEADER, Kind.PARTITION):
        return Frame(kind, json.loads(payload), "", {})
    at = 1 + payload[0]
    name = payload[1:at].decode()
    fields: dict[bytes, bytes] = {}
    scores: dict[bytes, float] = {}
    while at < len(payload):
        item, at = _take(payload, at)
        if kind is Kind.FIELDS:
            fields[item], at = _take(payload, at)
        else:
            (scores[item],) = _SCORE.unpack_from(payload, at)
            at += _SCORE.size
    return Frame(kind, {}, name, fields if kind is Kind.FIELDS else scores)


def _take(payload: bytes, at: int) -> tuple[bytes, int]:
    (length,) = _LENGTH.unpack_from(payload, at)
    start = at + _LENGTH.size
    return payload[start : start + length], start + length


def _name(collection: str) -> bytes:
    raw = collection.encode()
    return bytes([len(raw)]) + raw
