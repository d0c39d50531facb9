"""Invariant: a table of tracks is the mapping of the records added, however often columns are made of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.catalogue import CatalogueFile
from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.track_columns import EMPTY
from botify.schemas.track_table import TrackTable, unknown_among

CODEC = Codec()

names = st.sampled_from(["a", "b", "", "Ünï"])
tracks = st.builds(
    Track,
    st.integers(-5, 30) | st.integers(-(2**31), 2**31 - 1),
    names,
    st.none(),
    st.none() | names,
    names,
    st.none() | st.sampled_from(["x", "y", "zé"]),
    st.none() | st.lists(names, max_size=2),
    year=st.none() | st.integers(1900, 2030),
    deleted=st.booleans(),
)


@given(st.lists(st.tuples(st.lists(tracks, max_size=6), st.booleans()), max_size=6))
def test_a_table_is_the_mapping_of_its_records(batches: list[tuple[list[Track], bool]]) -> None:
    table, expected = TrackTable(CODEC), dict[int, Track]()
    for some, is_end in batches:
        table.add(some, list(map(CODEC.encode, some)))
        expected.update({track.track: track for track in some})
        if is_end:
            table.columns()
        asked = np.array([*expected, 3, 31, 2**40], dtype=np.int64)
        assert dict(table.items()) == expected
        assert (len(table), table.ids().tolist()) == (len(expected), sorted(expected))
        live = {number: track for number, track in expected.items() if not track.deleted}
        assert table.live_ids().tolist() == sorted(live)
        for track in expected.values():
            of_artist, of_genre = map(sorted, table.sharing(track))
            assert of_artist == sorted(number for number, one in live.items() if one.artist == track.artist)
            same = [number for number, one in live.items() if track.genre is not None and one.genre == track.genre]
            assert of_genre == sorted(same)
        assert table.holds(asked).tolist() == [track in table for track in asked.tolist()]
        assert unknown_among(asked, table).tolist() == [track for track in asked.tolist() if track not in expected]
    columns = table.columns()
    artists, genres = columns.artists(), [*columns.genres(), None]
    for row, track in enumerate(columns.ids.tolist()):
        named = artists[columns.artist_of[row]], genres[columns.genre_of[row]]
        assert named == (expected[track].artist, expected[track].genre)


@given(st.lists(tracks, max_size=12), st.integers(0, 12))
def test_a_track_is_found_by_its_present_external_id_only(some: list[Track], cut: int) -> None:
    table, expected = TrackTable(CODEC), {track.track: track for track in some}
    table.add(some[:cut], list(map(CODEC.encode, some[:cut])))
    table.columns()
    table.add(some[cut:], list(map(CODEC.encode, some[cut:])))
    for external_id in ("x", "y", "zé", "unknown"):
        having = [track for track in expected.values() if track.external_id == external_id]
        found = table.with_external_id(external_id)
        assert found in having if having else found is None


def test_a_copy_stays_as_it_is() -> None:
    table = TrackTable(CODEC)
    one, other = Track(1, "a", None, None, "x"), Track(1, "b", None, None, "y")
    table.add([one], [CODEC.encode(one)])
    copy = table.copy()
    table.add([other], [CODEC.encode(other)])
    assert (copy[1], table[1]) == (one, other)


def test_replaced_records_do_not_pile_up() -> None:
    columns, track = EMPTY, Track(1, "a", None, None, "x" * 100)
    for _ in range(10):
        columns = columns.merged([track], [CODEC.encode(track)])
    assert len(columns.records) <= 2 * len(CODEC.encode(track))


def saved(directory: Path, n: int) -> CatalogueFile:
    some = [Track(number, f"artist {number // 3}", None, None, f"title {number}") for number in range(n)]
    file = CatalogueFile(directory, "topic", "id")
    file.write(EMPTY.merged(some, [CODEC.encode(track) for track in some]), {0: n, 1: 5})
    return file


ENDS = {0: 100, 1: 5}


def test_a_file_has_what_was_written(tmp_path: Path) -> None:
    saved(tmp_path, 100)
    columns, offsets = CatalogueFile(tmp_path, "topic", "id").read(ENDS)
    assert offsets == ENDS
    assert TrackTable(CODEC, columns)[99].title == "title 99"


@pytest.mark.parametrize("at", [3, 200, 900, -1])
def test_a_file_that_is_damaged_anywhere_is_as_good_as_none(tmp_path: Path, at: int) -> None:
    saved(tmp_path, 100)
    (path,) = tmp_path.glob("*.columns")
    whole = path.read_bytes()
    at %= len(whole.rstrip(b"\0"))
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
        path.write_bytes(damaged)
        assert CatalogueFile(tmp_path, "topic", "id").read(ENDS) == (EMPTY, {})


@pytest.mark.parametrize("ends", [{0: 99, 1: 5}, {0: 100}, {0: 100, 1: 5, 2: 7}])
def test_a_file_of_another_topic_or_ahead_of_it_is_as_good_as_none(tmp_path: Path, ends: dict[int, int]) -> None:
    saved(tmp_path, 100)
    assert CatalogueFile(tmp_path, "topic", "id").read(ends) == (EMPTY, {})
    assert CatalogueFile(tmp_path, "topic", "another id").read(ENDS) == (EMPTY, {})
