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
from botify.schemas.events import SHOWN, Listen
from botify.schemas.validation import Intake
from botify.streams.folds.feedback import ATTRIBUTES, NAMES, OPINIONS, with_said, with_shown
from botify.streams.folds.partition import HASHES, SCORE_SETS
from botify.streams.snapshot import MAGIC, VERSION, Frame, Kind, SnapshotError, SnapshotWriter, read_frames
from botify.streams.store.protocol import Items, MemoryStore
from botify.streams.verify import FIRST_DIFFERENCES, Difference, OfflineFold, Report, have_same_items

FIELDS = {b"7": b"\0\xff" * 100, b"": b"", b"8": b"x"}
SCORES = {b"1": 0.1 + 0.2, b"2": -1e300, b"3": 5e-324}


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    path = tmp_path / "state"
    write(path)
    return path


def write(path: Path, version: int = VERSION) -> None:
    with path.open("wb") as file:
        writer = SnapshotWriter(file)
        writer.about(Kind.HEADER, {"format": version})
        writer.about(Kind.PARTITION, {"partition": 0})
        writer.items("users", FIELDS)
        writer.items("popularity:1h", SCORES)
        writer.end()


def test_what_was_written_is_read(snapshot: Path) -> None:
    assert list(read_frames(snapshot)) == [
        Frame(Kind.HEADER, {"format": VERSION}, "", {}),
        Frame(Kind.PARTITION, {"partition": 0}, "", {}),
        Frame(Kind.FIELDS, {}, "users", FIELDS),
        Frame(Kind.SCORES, {}, "popularity:1h", SCORES),
    ]


def test_the_same_state_gives_the_same_file(snapshot: Path, tmp_path: Path) -> None:
    write(tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == snapshot.read_bytes()


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
    write(tmp_path / "new", VERSION + 1)
    with pytest.raises(SnapshotError, match=f"has format {VERSION + 1}; this version reads {VERSION}"):
        list(read_frames(tmp_path / "new"))


@pytest.mark.parametrize(
    "raw", [b"", b"text", gzip.compress(b"", mtime=0), gzip.compress(b"something else entirely", mtime=0)]
)
def test_another_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "other").write_bytes(raw)
    with pytest.raises(SnapshotError, match="is not a snapshot"):
        list(read_frames(tmp_path / "other"))


def test_a_frame_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(gzip.compress(MAGIC + b"\x03\xff\xff\xff\xff"))
    with pytest.raises(SnapshotError, match="a frame of 4294967295 bytes"):
        list(read_frames(tmp_path / "huge"))


def records(count: int) -> list[LogRecord]:
    codec, made = Codec(), []
    for at in range(count):
        user, ended = at % 7, at % 10 == 9
        listen = Listen(f"a:{at}", user, at % 11, 0.5, 1000 * at, f"s{user}", at, ended, "random", {}, 0.1, 4.0)
        made.append(LogRecord("t", 0, at, 1000 * at, key_of(user), codec.encode(listen), ()))
    return made


def folded(batches: list[list[LogRecord]], **rejected: dict[int, set[int]]) -> OfflineFold:
    offline = OfflineFold(0, Intake(Codec(), range(11), lambda: None, **rejected))

    async def go() -> None:
        for batch in batches:
            await offline.advance(batch)

    asyncio.run(go())
    return offline


@pytest.fixture
def store() -> MemoryStore:
    store = folded([records(100)]).store
    store.hashes[0, OPINIONS] = {b"7": with_said(b"", [(1, 7, "like")])}  # in another namespace, with the same code
    store.hashes[0, ATTRIBUTES] = {b"7": b"{}"}
    store.hashes[0, NAMES], store.hashes[0, SHOWN] = {b"7": b"alice"}, {b"7": with_shown(b"", [(1, 7)])}
    return store


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
    one.hashes[0, "users"], other.hashes[0, "users"] = {b"1": b"a"}, {b"1": b"a"}
    assert asyncio.run(have_same_items(one, other, 0))
    assert asyncio.run(have_same_items(other, one, 0))


def test_all_differences_are_counted_and_the_first_are_kept() -> None:
    report = Report("n")
    for partition in range(3):
        report.count("users", 10, [Difference(partition, "users", b"%d" % n, b"", None) for n in range(10)])
    assert (report.differing, len(report.differences), report.compared) == (30, FIRST_DIFFERENCES, {"users": 30})
