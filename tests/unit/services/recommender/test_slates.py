"""Invariants of slates: what the request allows, as many as asked, diverse, with true probabilities."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from botify.schemas.events import Slate, SlateRequest, SlateRule
from botify.services.recommender.baselines import RandomTracks, StickyArtist, TopPop
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Dispatched, answer
from botify.services.recommender.lists import Indexed, Lists
from botify.services.recommender.protocol import Batch, Because, Ranking, Recommender
from botify.services.recommender.slates import EXPLORE, FADES_MS, Slates, from_state, with_liked
from botify.streams.folds.sessions import GAP_MS
from botify.streams.folds.users import UserState
from tests.support import make_tracks
from tests.unit.services.recommender.recommending import request_of, state_of

TRACKS = {track.track: track._replace(genre="rock" if track.track % 2 else "pop") for track in make_tracks(100)}
CATALOGUE = Catalogue(TRACKS.values())
POPULAR = np.arange(99, 39, -1)


def asked(**changed: Any) -> SlateRequest:
    slate: SlateRequest = {
        "size": 10, "without_listen": True, "exclude": [], "filters": [], "liked": [], "explain": False,
        "liked_ms": [], "liked_weights": [], "shown": [], "shown_since_ms": [], "shown_ms": [],
        "impressions": [], "impressions_ms": [], "caps": {}, "rules": [],
    }  # fmt: skip
    return {**slate, **changed}  # type: ignore[typeddict-item]


def rule(*what: int | str, boost: float | None = None, place: int | None = None) -> SlateRule:
    """Return a rule on tracks or filters; it blocks unless it boosts or pins."""
    tracks, filters = [one for one in what if isinstance(one, int)], [one for one in what if isinstance(one, str)]
    return {"tracks": tracks, "filters": filters, "boost": boost or float(place is not None), "place": place}


SLATES = Slates(CATALOGUE, TRACKS, lambda: POPULAR, lambda name: {name: 3})


def recommenders(*more: Recommender) -> dict[str, Recommender]:
    ours = RandomTracks(CATALOGUE), TopPop(lambda: POPULAR), StickyArtist(CATALOGUE)
    return {one.name: one for one in (*ours, *more)}


def answered(
    requests: Sequence[SlateRequest],
    wanted: str = "toppop",
    state: UserState | None = None,
    by: Mapping[str, Recommender] | None = None,
    deleted: Sequence[int] = (),
    now_ms: int = 0,
) -> tuple[Dispatched, list[Slate]]:
    made = [
        from_state(request_of(0, 0.0, request_id=f"r{at}", timestamp_ms=now_ms, slate=slate), state)
        for at, slate in enumerate(requests)
    ]
    gone = np.array(deleted, dtype=np.int64)
    found = answer(Batch.of(made, [state] * len(made)), [wanted] * len(made), by or recommenders(), gone, SLATES)
    slates = [slate for slate in found.slates if slate is not None]
    assert len(slates) == len(requests)
    return found, slates


def slate_of(slate: SlateRequest, *arguments: Any, **more: Any) -> Slate:
    return answered([slate], *arguments, **more)[1][0]


@given(
    st.sampled_from(["toppop", "random", "sticky_artist"]),
    st.integers(1, 100),
    st.lists(st.integers(0, 120), max_size=40),
    st.sampled_from([[], ["genre:rock"], ["genre:ROCK", "genre:pop"], ["artist:artist 3"], ["genre:jazz"]]),
    st.lists(st.integers(0, 99), max_size=8),
    st.lists(st.integers(0, 120), max_size=60),
)
def test_a_slate_has_what_is_allowed_and_nothing_twice(
    wanted: str, size: int, exclude: list[int], filters: list[str], heard: list[int], shown: list[int]
) -> None:
    state = state_of([(track, 0.9) for track in heard]) if heard else None
    seen = {"shown": shown, "shown_since_ms": [0] * len(shown), "shown_ms": [0] * len(shown)}
    found, (slate,) = answered([asked(size=size, exclude=exclude, filters=filters, **seen)], wanted, state)
    values = {one.partition(":")[2].lower() for one in filters}
    allowed = {
        track.track
        for track in TRACKS.values()
        if track.track not in {*exclude, *heard} and (not values or {track.genre, track.artist} & values)
    }
    if not allowed:
        assert (slate["tracks"], found.tracks[0], found.recommenders[0]) == ([], -1, wanted)
        return
    assert len(slate["tracks"]) == min(size, len(allowed)) == len(set(slate["tracks"]))
    assert set(slate["tracks"]) <= allowed
    assert all(0 < one <= 1 for one in slate["propensities"])
    assert found.propensities[0] == pytest.approx(math.prod(slate["propensities"]))
    assert found.tracks[0] == slate["tracks"][0]


@pytest.mark.parametrize(
    ("filters", "tracks", "read"),
    [
        ([], 60, [(40, None)]),
        (["artist!:artist 3"], 60, [(43, None)]),  # the usual ranking, as much deeper as it has too few
        (["genre:rock"], 90, [(80, None)]),
        (["artist:artist 3"], 60, [(40, 5), (100, 5)]),
        (["artist:artist 3"], 30, [(40, 5)]),  # the ranking has no more
        (["artist!:artist 3"], 4, [(43, None), (43, 95)]),
    ],
)
def test_a_ranking_is_read_as_deep_as_it_may_have_what_passes(
    filters: list[str], tracks: int, read: list[tuple[int, int | None]]
) -> None:
    seen = []

    class Ranks(TopPop):
        name, fallback = "ranks", None

        def rank(self, batch: Batch, k: int) -> Ranking:
            seen.append((k, None if batch.allowed is None else int(batch.allowed.sum())))
            return super().rank(batch, k)

    ranks = Ranks(lambda: np.arange(99, 99 - tracks, -1))
    slate = slate_of(asked(filters=filters), "ranks", by=recommenders(ranks))
    assert len(slate["tracks"]) == (5 if filters == ["artist:artist 3"] else 10)
    assert seen == read


def test_an_artist_has_two_of_ten_places() -> None:
    assert max(Counter(TRACKS[track].artist for track in slate_of(asked())["tracks"]).values()) == 2


@pytest.mark.parametrize(("caps", "artists", "genres"), [({}, 2, 10), ({"artist": 1}, 1, 10), ({"genre": 3}, 2, 3)])
def test_a_request_may_cap_any_field(caps: dict[str, int], artists: int, genres: int) -> None:
    lists = Lists(np.array([42]), np.random.default_rng(1).permutation(100)[None, :])
    by = recommenders(Indexed(lambda: lists))
    # no track has a year, and there is no such field as a colour
    for slate in answered([asked(size=6, caps={**caps, "colour": 1, "year": 1})] * 20, "indexed", by=by)[1]:
        found = [TRACKS[track] for track in slate["tracks"]]
        assert max(Counter(track.artist for track in found).values()) <= artists
        assert max(Counter(track.genre for track in found).values()) <= genres
        assert len(found) == 6


def shown_to(listener: UserState | None, hours_ago: int, **more: Any) -> list[int]:
    """Return a slate after the most popular tracks were shown three times, the last time some hours ago."""
    seen_ms = 10 * FADES_MS - hours_ago * 3_600_000
    asks = asked(shown=[99, 98, 97, 96], shown_since_ms=[seen_ms - 10] * 4, shown_ms=[seen_ms] * 4, **more)
    return slate_of(asks, state=listener, now_ms=10 * FADES_MS)["tracks"]


def test_what_was_shown_and_ignored_is_pushed_down_and_comes_back() -> None:
    assert {99, 98, 97, 96}.isdisjoint(shown_to(None, 0))
    assert {99, 98, 97, 96}.isdisjoint(shown_to(None, 24))
    assert not {99, 98, 97, 96}.isdisjoint(shown_to(None, 24 * 6))
    assert 99 in shown_to(None, 0, filters=["artist:artist 19"])  # there is little else
    heard = UserState()
    heard.fold_listen(b"e" * 8, 98, 1.0, 10 * FADES_MS, "another")
    heard.fold_listen(b"f" * 8, 1, 1.0, 10 * FADES_MS, "now")
    assert {98} == {99, 98, 97, 96}.intersection(shown_to(heard, 1))


def test_a_known_listener_gets_a_slate_of_the_last_listen() -> None:
    slate = slate_of(asked(size=3), "sticky_artist", state_of([(7, 0.9)]))
    assert slate["sources"][0] == "sticky_artist"
    assert {TRACKS[track].artist for track, source in zip(slate["tracks"], slate["sources"], strict=True)
            if source == "sticky_artist"} == {"artist 1"}  # fmt: skip
    assert slate["versions"] == {"sticky_artist": 3}


@pytest.mark.parametrize(
    ("asks", "others", "best"),
    [
        ({}, 8, 99),
        ({"shown": [99, 97], "shown_since_ms": [0, 0], "shown_ms": [0, 0]}, 10, 98),
        ({"rules": [rule(90, boost=10.0), rule(99), rule("artist:artist 17"), rule(40, place=1)]}, 9, 98),
    ],
)
def test_propensities_are_frequencies(asks: dict[str, Any], others: int, best: int) -> None:
    """Invariant: the first place has each track as often as its propensity says."""
    n = 5_000
    _, slates = answered([asked(size=2, **asks)] * n)
    firsts = Counter(slate["tracks"][0] for slate in slates)
    said = {slate["tracks"][0]: slate["propensities"][0] for slate in slates}
    assert sum(said.values()) == pytest.approx(1.0)
    for track, propensity in said.items():
        assert abs(firsts[track] - n * propensity) < 5 * math.sqrt(n * propensity)
    assert min(said.values()) == pytest.approx(EXPLORE / others)
    assert max(said, key=said.__getitem__) == best


@given(st.integers(1, 30), st.sampled_from(["toppop", "random"]), st.sampled_from([[], ["genre:rock"]]))
def test_rules_pin_and_block(size: int, wanted: str, filters: list[str]) -> None:
    pins = [rule(30, 13, 13, place=0), rule(31, place=size), rule(11, place=2), rule(98, 21, 1_000, place=2)]
    blocks = [rule(21, 99), rule("artist:artist 18", "genre:rock")]
    found, (slate,) = answered([asked(size=size, filters=filters, exclude=[30], rules=[*pins, *blocks])], wanted)
    pinned = [(0, 13), (2, 11), (3, 98)] if not filters else [(0, 13), (2, 11)]
    at = [place for place, source in enumerate(slate["sources"]) if source == "pinned"]
    assert [(place, slate["tracks"][place]) for place in at] == [pin for pin in pinned if pin[0] < size]
    assert all(slate["propensities"][place] == 1.0 for place in at)
    assert {21, 99, 91, 93}.isdisjoint(slate["tracks"])
    assert len(slate["tracks"]) == len(set(slate["tracks"])) == size
    assert found.recommenders[0] == (wanted if size == 1 else next(s for s in slate["sources"] if s != "pinned"))


@pytest.mark.parametrize("wanted", ["toppop", "random", "sticky_artist"])
@pytest.mark.parametrize("filters", [[], ["genre:rock"]])
def test_what_was_deleted_since_is_in_no_slate(wanted: str, filters: list[str]) -> None:
    deleted = [99, 98, 97, 3, 1_000]  # the most popular ones, one of the artist heard, one that the catalogue lacks
    slate = slate_of(asked(size=100, filters=filters, rules=[rule(99, place=0)]), wanted, deleted=deleted)
    allowed = {number for number, track in TRACKS.items() if not filters or track.genre == "rock"}
    assert set(slate["tracks"]) == allowed - set(deleted)


def test_a_pinned_track_counts_for_caps_and_comes_early_where_there_is_little_else() -> None:
    for slate in answered([asked(size=4, caps={"artist": 1}, rules=[rule(98, place=0)])] * 20)[1]:
        assert Counter(TRACKS[track].artist for track in slate["tracks"])["artist 19"] == 1
    only = slate_of(asked(size=5, filters=["artist:artist 19"], rules=[rule(98, place=4)]))
    assert (sorted(only["tracks"]), only["tracks"].index(98)) == ([95, 96, 97, 98, 99], 4)
    few = slate_of(asked(size=9, filters=["artist:artist 19"], rules=[rule(98, place=8)], explain=True))
    assert (few["tracks"][-1], few["because"][-1], len(few["tracks"])) == (98, Because.PINNED, 5)


def test_a_boosted_track_comes_as_many_times_earlier() -> None:
    def place(of: str | int, boost: float) -> int:
        tracks = slate_of(asked(rules=[rule(of, boost=boost)]))["tracks"]
        return tracks.index(49) if 49 in tracks else 99

    # it is the 51st; the pool has 40
    assert place(49, 1.0) == place(49, 1.2) == 99
    assert place(49, 10.0) < 10
    assert place("artist:artist 9", 10.0) < 10


def liked_in(state: UserState | None, times_ms: dict[int, int]) -> UserState:
    slate = asked(liked=sorted([71, 72], key=lambda track: track not in times_ms), liked_ms=list(times_ms.values()))
    return with_liked(request_of(0, session_id="asked", timestamp_ms=9_000, slate=slate), state)


@pytest.mark.parametrize(
    ("times_ms", "history", "session"),
    [
        ({71: 5, 72: 7}, [7, 8, 9, 71, 72], [8, 9, 71, 72]),
        ({72: 5}, [7, 8, 9, 72, 71], [8, 9, 72, 71]),  # one that the state does not have yet
        ({71: 1, 72: 0}, [7, 72, 8, 71, 9], [8, 71, 9]),
        ({71: -1, 72: -2}, [72, 71, 7, 8, 9], [8, 9]),
    ],
)
def test_a_like_is_a_full_listen_at_its_time(times_ms: dict[int, int], history: list[int], session: list[int]) -> None:
    state = state_of([(7, 0.5)], "before")
    for at, track in enumerate([8, 9]):
        state.fold_listen(b"%08d" % at, track, 0.5, at + 1, "now")
    kept, made = state.to_bytes(), liked_in(state, times_ms)
    assert state.to_bytes() == kept
    assert made.last_listens()["track"].tolist() == history
    assert set(made.last_listens()["fraction"][np.isin(history, [71, 72])]) == {1.0}
    assert (made.session_tracks().tolist(), made.session_listens) == (session, len(session))


def test_who_only_likes_has_a_session_of_likes() -> None:
    made = liked_in(None, {})
    assert (made.session_id, made.session_tracks().tolist(), made.session_listens) == ("asked", [71, 72], 2)
    request = from_state(request_of(0, 0.0, slate=asked(liked=[71, 72])), made)
    assert (request.track, request.position, request.fraction) == (72, 1, 1.0)


def test_a_signal_has_a_weight_and_what_may_come_again_leaves_the_session() -> None:
    slate = asked(liked=[71, 72, 73], liked_ms=[1, 2, 3], liked_weights=[0.5, 0.25], exclude=[71])
    made = with_liked(request_of(0, timestamp_ms=GAP_MS + 10, slate=slate), None)
    assert made.last_listens()["fraction"].tolist() == [0.5, 0.25, 1.0]
    assert (made.session_tracks().tolist(), made.session_listens) == ([71, 73], 2)  # the last one stays


@pytest.mark.parametrize("listens", [50, 120, 700])
def test_likes_of_a_long_session_leave_the_rest_as_it_is(listens: int) -> None:
    state = state_of([(track % 60, 0.5) for track in range(listens)])
    made = liked_in(state, {71: 8_000, 72: 8_001})
    assert made.session_listens == listens + 2
    assert made.last_listens()["track"].tolist() == [*state.last_listens()["track"].tolist()[2:], 71, 72]
    assert made.session_tracks().tolist()[:50] == state.session_tracks().tolist()[:50]
    assert made.session_tracks().tolist()[-2:] == [71, 72]


def test_a_list_of_ones_own_comes_before_what_is_popular() -> None:
    lists = Lists(np.array([42]), np.array([[3, 9, 27, -1]]))
    slate = slate_of(asked(size=5), "indexed", by=recommenders(Indexed(lambda: lists)))
    assert slate["sources"] == ["indexed"] * 3 + ["toppop"] * 2
    assert set(slate["tracks"][:3]) == {3, 9, 27}
