"""Invariant: what was written is what is read, and no damaged file is read to its end."""

import asyncio
import copy
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from botify.core.kafka.config import key_of
from botify.core.kafka.reader import LogRecord
from botify.schemas.codec import Codec
from botify.schemas.events import SHOWN
from botify.schemas.validation import Intake
from botify.streams.folds.feedback import ATTRIBUTES, NAMES, OPINIONS, with_said, with_shown
from botify.streams.folds.partition import HASHES, SCORE_SETS
from botify.streams.snapshot import MAGIC, VERSION, Frame, Kind, SnapshotError, SnapshotWriter, read_frames
from botify.streams.store.protocol import Items, MemoryStore
from botify.streams.verify import FIRST_DIFFERENCES, Difference, OfflineFold, Report, have_same_items
from tests.support import make_listens

CODEC = Codec()
FIELDS = {b"7": b"\0\xff" * 100, b"": b"", b"8": b"x"}
SCORES = {b"1": 0.1 + 0.2, b"2": -1e300, b"3": 5e-324}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    return write(tmp_path / "state")


def write(path: Path, version: int = VERSION) -> Path:
    with path.open("wb") as file:
        writer = SnapshotWriter(file)
        writer.about(Kind.HEADER, {"format": version})
        writer.about(Kind.PARTITION, {"partition": 0})
        writer.items("users", FIELDS)
        writer.items("popularity:1h", SCORES)
        writer.end()
    return path


def test_what_was_written_is_read(snapshot: Path) -> None:
    assert list(read_frames(snapshot)) == [
        Frame(Kind.HEADER, {"format": VERSION}, "", {}),
        Frame(Kind.PARTITION, {"partition": 0}, "", {}),
        Frame(Kind.FIELDS, {}, "users", FIELDS),
        Frame(Kind.SCORES, {}, "popularity:1h", SCORES),
    ]


def test_the_same_state_gives_the_same_file(snapshot: Path, tmp_path: Path) -> None:
    assert write(tmp_path / "again").read_bytes() == snapshot.read_bytes()


def test_a_file_that_is_cut_off_anywhere_is_refused(snapshot: Path) -> None:
    whole = snapshot.read_bytes()
    for length in range(len(whole)):
        snapshot.write_bytes(whole[:length])
        with pytest.raises(SnapshotError, match="damaged"):
            list(read_frames(snapshot))


def test_any_flipped_bit_of_the_content_is_seen(snapshot: Path) -> None:
    content = bytearray(gzip.decompress(snapshot.read_bytes()))
    rng = np.random.default_rng(1)
    for at in rng.choice(len(content) * 8, size=300, replace=False).tolist():
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        snapshot.write_bytes(gzip.compress(damaged, 1))
        with pytest.raises(SnapshotError):
            list(read_frames(snapshot))


def test_a_newer_format_is_refused_by_name(tmp_path: Path) -> None:
    path = write(tmp_path / "new", VERSION + 1)
    with pytest.raises(SnapshotError, match=f"has format {VERSION + 1}; this version reads {VERSION}"):
        list(read_frames(path))


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"", "is not a snapshot"),
        (b"text", "is not a snapshot"),
        (gzip.compress(b"", mtime=0), "is not a snapshot"),
        (gzip.compress(b"no snapshot", mtime=0), "is not a snapshot"),
        (gzip.compress(MAGIC + b"\x03\xff\xff\xff\xff", mtime=0), "a frame of 4294967295 bytes"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    (tmp_path / "other").write_bytes(raw)
    with pytest.raises(SnapshotError, match=why):
        list(read_frames(tmp_path / "other"))


@pytest.fixture
def store() -> MemoryStore:
    records = [
        LogRecord("t", 0, at, listen.timestamp_ms, key_of(listen.user), CODEC.encode(listen), ())
        for at, listen in enumerate(make_listens(100, users=7, tracks=11))
    ]
    offline = OfflineFold(0, Intake(CODEC, range(11), lambda: None))
    asyncio.run(offline.advance(records))
    # in another namespace, with the same code
    offline.store.hashes |= {
        (0, OPINIONS): {b"7": with_said(b"", [(1, 7, "like")])},
        (0, ATTRIBUTES): {b"7": b"{}"},
        (0, NAMES): {b"7": b"alice"},
        (0, SHOWN): {b"7": with_shown(b"", [(1, 7)])},
    }
    return offline.store


@pytest.mark.parametrize("collection", [*HASHES, *SCORE_SETS])
def test_states_that_differ_in_one_item_are_not_equal(store: MemoryStore, collection: str) -> None:
    def equal(other: MemoryStore) -> list[bool]:
        return [asyncio.run(have_same_items(*pair, 0)) for pair in ((store, other), (other, store))]

    assert equal(copy.deepcopy(store)) == [True, True]
    for change in ("missing", "renamed", "other"):
        other = copy.deepcopy(store)
        items: Any = other.hashes[0, collection] if collection in HASHES else other.scores[0, collection]
        value = items.pop(name := min(items))
        if change == "renamed":
            items[b"other"] = value
        elif change == "other":
            items[name] = value + (b"\0" if collection in HASHES else 1e-9)
        assert equal(other) == [False, False]


def test_an_item_that_a_scan_returns_twice_counts_once() -> None:
    class Scanned(MemoryStore):
        async def pages(self, partition: int, collection: str) -> AsyncIterator[Items]:
            for _ in range(2):
                yield self.items(partition, collection)

    one, other = MemoryStore(), Scanned()
    one.hashes[0, "users"] = other.hashes[0, "users"] = {b"1": b"a"}
    assert asyncio.run(have_same_items(one, other, 0))
    assert asyncio.run(have_same_items(other, one, 0))


def test_all_differences_are_counted_and_the_first_are_kept() -> None:
    report = Report("n")
    for partition in range(3):
        report.count("users", 10, [Difference(partition, "users", b"%d" % n, b"", None) for n in range(10)])
    assert (report.differing, len(report.differences), report.compared) == (30, FIRST_DIFFERENCES, {"users": 30})
