"""Each of Botify's recommenders against an example worked out by hand."""

import numpy as np
import pytest
import redis

from botify.schemas.events import RecommendationRequest, Track
from botify.services.errors import RecommenderError
from botify.services.recommender.baselines import (
    PopularTracks,
    RandomTracks,
    StickyArtist,
    StickyArtistMixed,
    StickyNoRepeat,
    TopPop,
)
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.lists import I2I, NO_LISTS, Contextual, Indexed, Lists, SimilarUsers
from botify.services.recommender.protocol import NO_ANSWER, Batch, Recommender
from botify.services.recommender.sessions import recent_listens
from botify.streams.folds.users import UserState
from botify.streams.read import TopTracks
from tests.unit.services.recommender.recommending import CATALOGUE, batch_of, check_frequencies, evenly, state_of

EVERYTHING = set(CATALOGUE.tracks.tolist())
NEIGHBOURS = Lists(np.array([10, 11, 30]), np.array([[30, 31, 12], [31, -1, -1], [10, 11, 33]], dtype=np.int32))
N = 6_000


def test_random_toppop_and_sticky_artist_draw_evenly() -> None:
    batch, top = batch_of(N, 10, 0.5), np.array([16, 13, 61])
    check_frequencies(RandomTracks(CATALOGUE), batch, evenly(*EVERYTHING))
    check_frequencies(TopPop(lambda: top), batch, evenly(*top.tolist()))
    check_frequencies(StickyArtist(CATALOGUE), batch, evenly(10, 11, 12, 13))
    assert StickyArtist(CATALOGUE).recommend(batch_of(3, 99, 1.0)).tracks.tolist() == [NO_ANSWER] * 3


def test_contextual_draws_a_neighbour_whatever_was_thought_of_the_track() -> None:
    for fraction in (0.0, 1.0):
        check_frequencies(Contextual(lambda: NEIGHBOURS), batch_of(N, 10, fraction), evenly(30, 31, 12))
    assert Contextual(lambda: NEIGHBOURS).recommend(batch_of(3, 12, 1.0)).tracks.tolist() == [NO_ANSWER] * 3


def test_indexed_draws_from_the_listeners_own_list() -> None:
    lists = Lists(np.array([41, 42]), np.array([[30, -1], [11, 20]], dtype=np.int32))
    check_frequencies(Indexed(lambda: lists), batch_of(N, 10, 0.0), evenly(11, 20))
    stranger = RecommendationRequest("r", 43, "s", 0, 10, 1.0, 0, 0)
    assert Indexed(lambda: lists).recommend(Batch.of([stranger], [None])).tracks.tolist() == [NO_ANSWER]


@pytest.mark.parametrize(
    ("track", "fraction", "expected", "policy"),
    [
        (10, 0.3, evenly(11, 12, 13), "sticky_artist"),
        (20, 1.0, evenly(20), "sticky_artist"),
        (10, 0.29, evenly(*EVERYTHING), "random"),
        (99, 1.0, evenly(*EVERYTHING), "random"),
    ],
)
def test_mixed_sticks_while_it_pleases(track: int, fraction: float, expected: dict[int, float], policy: str) -> None:
    check_frequencies(StickyArtistMixed(CATALOGUE), batch_of(N, track, fraction), expected)
    assert StickyArtistMixed(CATALOGUE).recommend(batch_of(2, track, fraction)).policies == [policy] * 2


NOTHING = Catalogue([])


@pytest.mark.parametrize(
    "recommender",
    [
        RandomTracks(NOTHING),
        StickyArtist(NOTHING),
        StickyArtistMixed(NOTHING),
        StickyNoRepeat(NOTHING),
        SimilarUsers(NOTHING, lambda: NEIGHBOURS),
        TopPop(lambda: np.zeros(0, dtype=np.int64)),
        Contextual(lambda: NO_LISTS),
        Indexed(lambda: NO_LISTS),
        I2I(lambda: NO_LISTS),
    ],
    ids=lambda recommender: recommender.name,
)
def test_with_nothing_to_choose_from_there_is_no_answer(recommender: Recommender) -> None:
    assert recommender.recommend(batch_of(2, 10, 1.0)).tracks.tolist() == [NO_ANSWER] * 2


def test_sticky_norepeat_stays_with_the_artist_but_not_with_the_track() -> None:
    check_frequencies(StickyNoRepeat(CATALOGUE), batch_of(N, 10, 1.0), evenly(11, 12, 13))


def test_sticky_norepeat_leaves_an_artist_for_a_better_one() -> None:
    heard = state_of([(10, 1.0), (30, 0.9)])  # with 11, of a 0.65 was heard on average, of c 0.9
    check_frequencies(StickyNoRepeat(CATALOGUE), batch_of(N, 11, 0.3, heard, position=2), evenly(31, 32, 33, 34, 35))


def test_i2i_draws_the_anchor_by_its_fraction_and_answers_its_first_unseen_neighbour() -> None:
    # 10 leads to 31 because 30 was heard, 11 to 31 too, 30 to 33; 12 leads nowhere and is put aside
    heard = state_of([(30, 0.4), (12, 1.0), (11, 0.1)])
    check_frequencies(I2I(lambda: NEIGHBOURS), batch_of(N, 10, 0.5, heard, position=3), {31: 0.6, 33: 0.4})


def test_i2i_has_no_answer_where_nothing_was_heard_of_any_anchor() -> None:
    heard = state_of([(30, 0.0), (12, 1.0)])
    assert I2I(lambda: NEIGHBOURS).recommend(batch_of(1, 10, 0.0, heard, position=2)).tracks.tolist() == [NO_ANSWER]


def test_i2i_forgets_what_is_older_than_ten_listens() -> None:
    heard = state_of([(30, 1.0), *[(20, 0.0)] * 9])
    answers = I2I(lambda: NEIGHBOURS).recommend(batch_of(1, 10, 1.0, heard, position=10))
    assert answers.tracks.tolist() == [30]  # no longer seen, and no seed track either


def test_similar_users_lets_contextual_answer_for_what_is_disliked() -> None:
    # 11 and 12 are disliked: half of the draws go to the neighbours 30, 31 and 12
    heard = state_of([(11, 0.2), (12, 0.0), (12, 1.0), (30, 0.1)])
    check_frequencies(
        SimilarUsers(CATALOGUE, lambda: NEIGHBOURS),
        batch_of(N, 10, 1.0, heard, position=4),
        {10: 1 / 4, 13: 1 / 4, 30: 1 / 6, 31: 1 / 6, 12: 1 / 6},
    )


def test_similar_users_draws_from_the_catalogue_where_there_are_no_neighbours() -> None:
    # 11 is disliked: a quarter of the draws go to any of the eleven tracks
    heard = state_of([(11, 0.2)])
    by_the_artist, others = (
        dict.fromkeys((10, 12, 13), 1 / 4 + 1 / 44),
        dict.fromkeys(EVERYTHING - {10, 12, 13}, 1 / 44),
    )
    check_frequencies(
        SimilarUsers(CATALOGUE, lambda: NO_LISTS), batch_of(N, 13, 1.0, heard, position=1), by_the_artist | others
    )


@pytest.mark.parametrize(("bad", "changes"), [(3, False), (4, True), (5, False), (9, True)])
@pytest.mark.parametrize("ahead", [False, True], ids=["worker behind", "worker ahead"])
def test_each_fifth_bad_listen_in_a_row_changes_the_subject(bad: int, changes: bool, ahead: bool) -> None:
    heard = [(20, 1.0)] + [(33, 0.2)] * bad + ([(10, 0.1)] if ahead else [])
    answers = SimilarUsers(CATALOGUE, lambda: NEIGHBOURS).recommend(
        batch_of(300, 10, 0.1, state_of(heard), position=1 + bad)
    )
    assert (set(answers.tracks.tolist()) == {30, 31, 12}) == changes
    assert (answers.policies == ["contextual"] * 300) == changes


def test_a_streak_ends_with_its_session() -> None:
    heard = state_of([(33, 0.0)] * 4, session_id="earlier")
    answers = SimilarUsers(CATALOGUE, lambda: NEIGHBOURS).recommend(batch_of(300, 10, 0.0, heard))
    assert "sticky_artist" in (answers.policies or ())


ALL = [
    RandomTracks(CATALOGUE),
    TopPop(lambda: CATALOGUE.tracks),
    StickyArtist(CATALOGUE),
    Contextual(lambda: NEIGHBOURS),
    Indexed(lambda: NEIGHBOURS),
    I2I(lambda: NEIGHBOURS),
    StickyArtistMixed(CATALOGUE),
    SimilarUsers(CATALOGUE, lambda: NEIGHBOURS),
    StickyNoRepeat(CATALOGUE),
]


@pytest.mark.parametrize("recommender", ALL, ids=lambda recommender: recommender.name)
def test_an_answer_does_not_depend_on_its_company(recommender: Recommender) -> None:
    rng = np.random.default_rng(5)
    requests, states = [], []
    for i in range(60):
        heard = [(int(track), float(rng.random())) for track in rng.choice(CATALOGUE.tracks, rng.integers(0, 14))]
        track = int(rng.choice(CATALOGUE.tracks))
        requests.append(
            RecommendationRequest(f"r{i}", 10 + i % 3, "s", len(heard), track, round(rng.random(), 1), 0, 0)
        )
        states.append(state_of(heard) if heard else None)
    together = recommender.recommend(Batch.of(requests, states))
    for i, (request, state) in enumerate(zip(requests, states, strict=True)):
        alone = recommender.recommend(Batch.of([request], [state]))
        assert (alone.tracks[0], alone.propensities[0]) == (together.tracks[i], together.propensities[i])


def test_recent_listens_are_the_newest_first_and_hold_the_requests_own_once() -> None:
    heard = [(track, track / 100) for track in range(1, 6)]
    behind, ahead = state_of(heard), state_of([*heard, (6, 0.06)])
    requests = [RecommendationRequest("r", 42, "s", 5, 6, 0.06, 0, 0)] * 2
    new = RecommendationRequest("r", 42, "next", 0, 6, 0.06, 0, 0)
    tracks, fractions = recent_listens(Batch.of([*requests, new, new], [behind, ahead, behind, None]), 4)
    assert tracks.tolist() == [[6, 5, 4, 3], [6, 5, 4, 3], [6, 5, 4, 3], [6, -1, -1, -1]]
    assert fractions.tolist() == [[0.06, 0.05, 0.04, 0.03]] * 3 + [[0.06, 0, 0, 0]]
    assert recent_listens(Batch.of(requests, [UserState()] * 2), 2)[0].tolist() == [[6, -1]] * 2


@pytest.mark.parametrize("raw", [b"", b"BLS1", NEIGHBOURS.to_bytes()[:-1], b"x" + NEIGHBOURS.to_bytes()[1:]])
def test_bytes_that_are_no_lists_are_refused(raw: bytes) -> None:
    with pytest.raises(RecommenderError, match="are not lists; `botify models publish` makes new ones"):
        Lists.from_bytes(raw)


class Top:
    """A reader of state whose most popular track is the number of its reads."""

    def __init__(self) -> None:
        self.reads = 0
        self.is_reachable = True

    def top_tracks(self, half_life: str, count: int) -> TopTracks:
        assert (half_life, count) == ("1d", 100)
        self.reads += 1
        if not self.is_reachable:
            raise redis.ConnectionError
        return TopTracks(np.array([self.reads]), np.zeros(1), 0)


def test_the_top_is_read_once_a_second_and_kept_while_redis_does_not_answer() -> None:
    reader, now_s = Top(), [1_000.0]
    top = PopularTracks(reader, lambda: now_s[0])  # type: ignore[arg-type]
    read: list[int] = []
    for now_s[0] in (0.0, 0.9, 1.0, 2.0, 2.5, 3.0):
        reader.is_reachable = now_s[0] != 2.0
        read.append(top().item())
    assert read == [1, 1, 2, 2, 2, 4]


def test_the_catalogue_groups_tracks_by_artist() -> None:
    artist_of = {10 + 3 * at: f"artist {at * at % 4}" for at in range(20)}
    grouped = Catalogue([Track(track, artist, None, None, "x") for track, artist in artist_of.items()])
    assert grouped.rows_of(np.array([9, 10, 11, 67, 68])).tolist() == [-1, 0, -1, 19, -1]
    assert Catalogue([]).rows_of(np.array([1])).tolist() == [-1]
    for start, size in zip(grouped.artist_start, grouped.artist_size, strict=True):
        tracks = grouped.tracks[grouped.by_artist[start : start + size]].tolist()
        assert {artist_of[track] for track in tracks} == {artist_of[tracks[0]]}
        assert len(tracks) == sum(other == artist_of[tracks[0]] for other in artist_of.values())
