"""Invariant: a table of tracks is the mapping of the records added, however often columns are made of them."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.catalogue import CatalogueFile
from botify.schemas.codec import Codec
from botify.schemas.events import Track
from botify.schemas.sketches import BITS, sketch_of, words_of
from botify.schemas.track_columns import EMPTY
from botify.schemas.track_table import TrackTable, unknown_among
from tests.support import make_tracks

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
    sketch=st.none() | st.binary(min_size=15, max_size=16),
)


def add(table: TrackTable, *some: Track) -> None:
    table.add(some, list(map(CODEC.encode, some)))


def table_of(*some: Track) -> TrackTable:
    table = TrackTable(CODEC)
    add(table, *some)
    return table


@given(st.lists(st.tuples(st.lists(tracks, max_size=6), st.booleans()), max_size=6))
def test_a_table_is_the_mapping_of_its_records(batches: list[tuple[list[Track], bool]]) -> None:
    table, expected = TrackTable(CODEC), dict[int, Track]()
    for some, is_end in batches:
        add(table, *some)
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
    sketches = [expected[number].sketch for number in sorted(expected)]
    assert np.array_equal(columns.sketches.view("<u8").reshape(-1, 2), words_of(sketches))
    artists, genres = columns.artists(), [*columns.genres(), None]
    for row, track in enumerate(columns.ids.tolist()):
        named = artists[columns.artist_of[row]], genres[columns.genre_of[row]]
        assert named == (expected[track].artist, expected[track].genre)


def test_tracks_of_similar_content_are_found_wherever_they_are() -> None:
    def track(number: int, *vector: float, deleted: bool = False) -> Track:
        return Track(number, "a", None, None, "x", deleted=deleted, sketch=sketch_of(vector) if vector else None)

    some = [track(1, 1, 0, 0), track(2, 0, 0, 1), track(3), track(4, 1, 0.2, 0), track(5, 1, 0, 0, deleted=True)]
    table = table_of(*some)
    table.columns()
    add(table, track(6, 1, 0.1, 0), track(4, -1, 0, 0))  # a record of 4 that counts in place of the one in the columns
    (nearest, cosine), *others = table.alike(table[1], 10)
    assert nearest == 6
    assert 0.9 < cosine <= 1
    assert {number for number, _ in others} <= {2}
    assert len(table.alike(table[6], 1)) == 1
    assert table.alike(table[1], 10) == TrackTable(CODEC, table.columns()).alike(table[1], 10)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=1_024).filter(any), st.floats(1e-3, 1e3))
def test_a_sketch_is_of_a_direction(vector: list[float], factor: float) -> None:
    sketch = sketch_of(vector)
    assert len(sketch) * 8 == BITS
    scaled = [factor * one for one in vector]
    if np.isfinite(scaled).all() and any(scaled):
        differs = np.bitwise_count(words_of([sketch]) ^ words_of([sketch_of(scaled)])).sum()
        assert differs <= 1  # where the last bits of a sum round the other way


@pytest.mark.parametrize("vector", [[], [0.0], [0.0] * 3, [1.0] * 1_025, [float("nan"), 1.0], [float("inf")]])
def test_what_has_no_direction_has_no_sketch(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="vector"):
        sketch_of(vector)


@given(st.lists(tracks, max_size=12), st.integers(0, 12))
def test_a_track_is_found_by_its_present_external_id_only(some: list[Track], cut: int) -> None:
    table, expected = table_of(*some[:cut]), {track.track: track for track in some}
    table.columns()
    add(table, *some[cut:])
    for external_id in ("x", "y", "zé", "unknown"):
        having = [track for track in expected.values() if track.external_id == external_id]
        found = table.with_external_id(external_id)
        assert found in having if having else found is None


def test_a_copy_stays_as_it_is() -> None:
    one, other = Track(1, "a", None, None, "x"), Track(1, "b", None, None, "y")
    table = table_of(one)
    copy = table.copy()
    add(table, other)
    assert (copy[1], table[1]) == (one, other)


def test_replaced_records_do_not_pile_up() -> None:
    columns, track = EMPTY, Track(1, "a", None, None, "x" * 100)
    for _ in range(10):
        columns = columns.merged([track], [CODEC.encode(track)])
    assert len(columns.records) <= 2 * len(CODEC.encode(track))


ENDS = {0: 100, 1: 5}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a file of a hundred tracks."""
    CatalogueFile(tmp_path, "topic", "id").write(table_of(*make_tracks(100)).columns(), ENDS)
    return tmp_path


def test_a_file_has_what_was_written(saved: Path) -> None:
    columns, offsets = CatalogueFile(saved, "topic", "id").read(ENDS)
    assert offsets == ENDS
    assert dict(TrackTable(CODEC, columns).items()) == {track.track: track for track in make_tracks(100)}


@pytest.mark.parametrize("at", [3, 200, 900, -1])
def test_a_file_that_is_damaged_anywhere_is_as_good_as_none(saved: Path, at: int) -> None:
    (path,) = saved.glob("*.columns")
    whole = path.read_bytes()
    at %= len(whole.rstrip(b"\0"))
    for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
        path.write_bytes(damaged)
        assert CatalogueFile(saved, "topic", "id").read(ENDS) == (EMPTY, {})


@pytest.mark.parametrize("ends", [{0: 99, 1: 5}, {0: 100}, {0: 100, 1: 5, 2: 7}])
def test_a_file_of_another_topic_or_ahead_of_it_is_as_good_as_none(saved: Path, ends: dict[int, int]) -> None:
    assert CatalogueFile(saved, "topic", "id").read(ends) == (EMPTY, {})
    assert CatalogueFile(saved, "topic", "another id").read(ENDS) == (EMPTY, {})
