"""Invariant: the tables of compiled code hold what a dict, and a sort, would hold after any changes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from botify.streams.folds.columns.ids import RowsOfIds
from botify.streams.folds.columns.popularity import Popularity, Top
from botify.streams.folds.popularity import POPULARITY
from botify.streams.folds.projection import Bulk, PackedFields

STEPS = st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 40), max_size=30)), max_size=12)


@given(STEPS)
def test_rows_are_those_of_a_dict(steps: list[tuple[bool, list[int]]]) -> None:
    table, expected = RowsOfIds(), dict[int, int]()
    for adds, numbers in steps:
        if adds:
            rows, new = table.of(np.array(numbers, dtype=np.int64))
            assert {numbers[at] for at in new} == set(numbers) - expected.keys()
            expected |= dict(zip(numbers, rows.tolist(), strict=True))
        else:
            gone = [number for number in set(numbers) if number in expected]
            removed = np.array([expected.pop(number) for number in gone], dtype=np.int64)
            table.remove(np.array(gone, dtype=np.int64), removed)
        assert len(table) == len(expected) == len(set(expected.values()))
    every = list(expected)
    assert table.of(np.array(every, dtype=np.int64))[0].tolist() == [expected[number] for number in every]


def test_ids_whose_slots_are_taken_keep_their_rows() -> None:
    table, numbers = RowsOfIds(), np.arange(50_000) * 7  # so many that thousands share their first slot
    rows, _ = table.of(numbers)
    even, odd = numbers[::2].copy(), numbers[1::2].copy()  # a slice is of another layout, and compiled anew
    table.remove(even, rows[::2].copy())
    assert table.of(odd)[0].tolist() == rows[1::2].tolist()
    assert sorted(table.of(numbers)[0].tolist()) == list(range(50_000))


RAISES = st.lists(st.dictionaries(st.integers(0, 12), st.integers(1, 3), max_size=13), max_size=10)


@given(st.integers(1, 6), RAISES)
def test_a_top_is_the_sorted_one(size: int, batches: list[dict[int, int]]) -> None:
    top, scores, before = Top(size), dict[int, float](), set[int]()
    for raised in batches:
        heard = {track: scores.get(track, 0.0) + more for track, more in sorted(raised.items())}
        scores |= heard
        best = set(sorted(scores, key=lambda track: (-scores[track], track))[:size])
        changes = top.update(np.array([*heard], dtype=np.int64), np.array([*heard.values()], dtype=np.float64))
        stay = {b"%d" % track: score for track, score in heard.items() if track in best}
        assert changes == stay | {b"%d" % track: None for track in before - best}
        before = best


@given(st.dictionaries(st.binary(max_size=30), st.one_of(st.none(), st.binary(max_size=30))))
def test_packed_fields_are_the_fields(fields: dict[bytes, bytes | None]) -> None:
    kept = [part for field, value in fields.items() if value is not None for part in (field, value)]
    packed = PackedFields(Bulk.of(kept), Bulk.of([field for field, value in fields.items() if value is None]))
    assert packed == fields
    assert len(packed) == len(fields)


def test_tracks_that_need_more_room_are_missing_like_others() -> None:
    popularity = Popularity()
    for some in (np.arange(900), np.arange(900, 1_200), np.arange(5_000)):  # there is room for 1,024 at first
        assert len(popularity.missing(some)[POPULARITY]) == len(some)
    popularity.load_fields({b"%d" % track: None for track in range(5_000)})
    assert popularity.missing(np.arange(5_000)) == {}
