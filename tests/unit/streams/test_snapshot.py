"""Invariant: what was written is what is read, and no damaged file is read to its end."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from botify.streams.snapshot import MAGIC, VERSION, Frame, Kind, SnapshotError, SnapshotWriter, read_frames

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
        writer.fields("users", FIELDS)
        writer.scores("popularity:1h", SCORES)
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
    "raw",
    [b"", b"text", gzip.compress(b"", mtime=0), gzip.compress(b"something else entirely", mtime=0)],
)
def test_another_file_is_refused(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / "other").write_bytes(raw)
    with pytest.raises(SnapshotError, match="is not a snapshot"):
        list(read_frames(tmp_path / "other"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SnapshotError, match="does not exist"):
        list(read_frames(tmp_path / "none"))


def test_a_frame_that_claims_to_be_huge_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge").write_bytes(gzip.compress(MAGIC + b"\x03\xff\xff\xff\xff"))
    with pytest.raises(SnapshotError, match="a frame of 4294967295 bytes"):
        list(read_frames(tmp_path / "huge"))
