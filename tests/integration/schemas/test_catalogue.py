"""Invariant: a reader has the topic's tracks, whatever is in the file beside it; the file saves reading them again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from botify.core.settings import Settings
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.codec import Codec
from botify.schemas.topics import Topics
from tests.support import make_tracks, produce, produce_raw

CODEC = Codec()


@pytest.fixture
def at_home(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings with a home of their own, and a catalogue that is large."""
    monkeypatch.setattr("botify.schemas.catalogue.LARGE", 20)
    return settings.with_(home=tmp_path)


@contextmanager
def reading(settings: Settings) -> Iterator[CatalogueReader]:
    reader = CatalogueReader(settings, CODEC)
    try:
        yield reader
    finally:
        reader.close()


def write(settings: Settings, count: int, first: int = 0) -> None:
    produce(settings, Topics.of(settings).catalogue.name, make_tracks(count, first))


def test_a_reader_reads_what_came_after_its_file_and_the_topic_again_without_a_usable_one(at_home: Settings) -> None:
    write(at_home, 50)
    with reading(at_home) as reader:
        assert reader.refresh() == 50
        assert dict(reader.tracks) == {track.track: track for track in make_tracks(50)}
    (path,) = (at_home.home / "cache").glob("*.columns")
    written = path.read_bytes()
    write(at_home, 5, first=50)
    for content in (written, written[:-100], b"rubbish", b""):
        path.write_bytes(content)
        with reading(at_home) as reader:
            assert reader.refresh() >= 55
            assert dict(reader.tracks) == {track.track: track for track in make_tracks(55)}
            produce_raw(at_home, Topics.of(at_home).catalogue.name, [(b"9", b"rubbish"), (b"9", None)])
            assert reader.refresh() == 2
            assert len(reader.tracks) == 55


def test_without_a_place_for_the_file_the_topic_is_read(at_home: Settings, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    write(at_home, 50)
    with reading(at_home.with_(home=tmp_path / "file")) as reader:
        reader.refresh()
        assert len(reader.tracks) == 50
