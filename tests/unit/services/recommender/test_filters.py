"""Invariant: the rows that pass are those of the tracks that pass, by a plain reading of the filters."""

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import Track
from botify.services.recommender.filters import Filters, passes, wanted_by

GENRES = ("rock", "Pop", "jazz")
TRACKS = [
    Track(at, f"artist {at % 4}", None, genre, "t", None, [genre, GENRES[at % 3]] if genre else None, None, year)
    for at, (genre, year) in enumerate(product((*GENRES, None), (1999, 2010, 2020, None)))
]
FILTERS = (
    "genre:rock", "genre:POP", "genre!:rock", "genre!:jazz", "year>=2010", "year<2020", "year>1999", "year<=1999",
    "year:2010", "year!:2010", "artist:artist 1", "artist!:artist 1", "genre:none",
)  # fmt: skip
HOSTILE = ("colour:red", "colour!:red", "genre", "", "year>=x", "genre>rock", "year>=²")


def plainly(track: Track, filters: list[str]) -> bool:
    genres = {one.lower() for one in (track.genre, *(track.genres or ())) if one is not None}
    year = -1 if track.year is None else track.year
    holds = {
        "genre!:rock": "rock" not in genres, "genre!:jazz": "jazz" not in genres, "year!:2010": year != 2010,
        "year>=2010": year >= 2010, "year<2020": 0 <= year < 2020, "year>1999": year > 1999, "year<=1999": year == 1999,
        "artist!:artist 1": track.artist != "artist 1",
    }  # fmt: skip
    for field, has in (("genre", genres), ("year", {str(track.year)}), ("artist", {track.artist})):
        values = {one.partition(":")[2].lower() for one in filters if one.startswith(f"{field}:")}
        if values and not values & has:
            return False
    return all(holds.get(one, True) for one in filters)


@given(st.lists(st.sampled_from(FILTERS), max_size=5))
def test_what_passes(filters: list[str]) -> None:
    expected = [plainly(track, filters) for track in TRACKS]
    assert Filters(len(TRACKS), lambda: TRACKS).mask(filters).tolist() == expected
    assert [passes(track, wanted_by(filters)) for track in TRACKS] == expected


def test_what_is_no_filter_lets_nothing_pass() -> None:
    filters = Filters(len(TRACKS), lambda: TRACKS)
    for one in HOSTILE:
        assert not filters.mask([one]).any(), one
        assert not any(passes(track, wanted_by([one])) for track in TRACKS), one
