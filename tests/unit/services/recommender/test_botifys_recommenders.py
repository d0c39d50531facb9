"""Each of Botify's recommenders against an example worked out by hand."""

import numpy as np
import pytest
import redis

from botify.schemas.events import Track
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
from botify.services.recommender.protocol import NO_ANSWER, Batch, Ints, Recommender
from botify.services.recommender.sessions import recent_listens
from botify.streams.folds.users import UserState
from botify.streams.read import TopTracks
from tests.unit.services.recommender.recommending import (
    CATALOGUE,
    Heard,
    batch_of,
    check_frequencies,
    evenly,
    request_of,
    state_of,
)

EVERYTHING = set(CATALOGUE.tracks.tolist())
NEIGHBOURS = Lists(np.array([10, 11, 30]), np.array([[30, 31, 12], [31, -1, -1], [10, 11, 33]], dtype=np.int32))
OF_LISTENERS = Lists(np.array([41, 42]), np.array([[30, -1], [11, 20]], dtype=np.int32))
TOP = np.array([16, 13, 61])
STICKY_MIXED = StickyArtistMixed(CATALOGUE)
SIMILAR_USERS = SimilarUsers(CATALOGUE, lambda: NEIGHBOURS)


def named(value: object) -> str | None:
    return getattr(value, "name", None)


def asked(n: int, heard: Heard) -> Batch:
    """Requests after the last listen, which the state does not have yet."""
    return batch_of(n, *heard[-1], state_of(heard[:-1]) if len(heard) > 1 else None, position=len(heard) - 1)


@pytest.mark.parametrize(
    ("recommender", "heard", "expected"),
    [
        (RandomTracks(CATALOGUE), [(10, 0.5)], evenly(*EVERYTHING)),
        (TopPop(lambda: TOP), [(10, 0.5)], evenly(*TOP.tolist())),
        (StickyArtist(CATALOGUE), [(10, 0.5)], evenly(10, 11, 12, 13)),
        # whatever was thought of the track
        (Contextual(lambda: NEIGHBOURS), [(10, 0.0)], evenly(30, 31, 12)),
        (Contextual(lambda: NEIGHBOURS), [(10, 1.0)], evenly(30, 31, 12)),
        (Indexed(lambda: OF_LISTENERS), [(10, 0.0)], evenly(11, 20)),
        (STICKY_MIXED, [(10, 0.3)], evenly(11, 12, 13)),
        (STICKY_MIXED, [(20, 1.0)], evenly(20)),
        (STICKY_MIXED, [(10, 0.29)], evenly(*EVERYTHING)),
        (STICKY_MIXED, [(99, 1.0)], evenly(*EVERYTHING)),
        (StickyNoRepeat(CATALOGUE), [(10, 1.0)], evenly(11, 12, 13)),
        # of a 0.65 was heard on average, of c 0.9
        (StickyNoRepeat(CATALOGUE), [(10, 1.0), (30, 0.9), (11, 0.3)], evenly(31, 32, 33, 34, 35)),
        # 10 leads to 31 because 30 was heard, 11 to 31 too, 30 to 33; 12 leads nowhere and is put aside
        (I2I(lambda: NEIGHBOURS), [(30, 0.4), (12, 1.0), (11, 0.1), (10, 0.5)], {31: 0.6, 33: 0.4}),
        # after ten more listens, 30 is no longer seen, and no seed track either
        (I2I(lambda: NEIGHBOURS), [(30, 1.0), *[(20, 0.0)] * 9, (10, 1.0)], {30: 1.0}),
        # 11 and 12 are disliked: half of the draws go to the neighbours 30, 31 and 12
        (
            SIMILAR_USERS,
            [(11, 0.2), (12, 0.0), (12, 1.0), (30, 0.1), (10, 1.0)],
            {10: 1 / 4, 13: 1 / 4, 30: 1 / 6, 31: 1 / 6, 12: 1 / 6},
        ),
        # 11 is disliked: a quarter of the draws go to any of the eleven tracks, as there are no neighbours
        (
            SimilarUsers(CATALOGUE, lambda: NO_LISTS),
            [(11, 0.2), (13, 1.0)],
            dict.fromkeys(EVERYTHING, 1 / 44) | dict.fromkeys((10, 12, 13), 1 / 4 + 1 / 44),
        ),
    ],
    ids=named,
)
def test_tracks_are_drawn_and_logged_as_worked_out(
    recommender: Recommender, heard: Heard, expected: dict[int, float]
) -> None:
    check_frequencies(recommender, asked(6_000, heard), expected)


@pytest.mark.parametrize(
    ("track", "fraction", "policy"),
    [(10, 0.3, "sticky_artist"), (20, 1.0, "sticky_artist"), (10, 0.29, "random"), (99, 1.0, "random")],
)
def test_mixed_sticks_while_it_pleases(track: int, fraction: float, policy: str) -> None:
    assert STICKY_MIXED.recommend(batch_of(2, track, fraction)).policies == [policy] * 2


def botifys(catalogue: Catalogue, lists: Lists, top: Ints) -> list[Recommender]:
    of_catalogue = [kind(catalogue) for kind in (RandomTracks, StickyArtist, StickyArtistMixed, StickyNoRepeat)]
    of_lists = [kind(lambda: lists) for kind in (Contextual, Indexed, I2I)]
    return [*of_catalogue, *of_lists, TopPop(lambda: top), SimilarUsers(catalogue, lambda: NEIGHBOURS)]


@pytest.mark.parametrize(
    ("recommender", "heard"),
    [
        *((one, [(10, 1.0)]) for one in botifys(Catalogue([]), NO_LISTS, np.zeros(0, dtype=np.int64))),
        (StickyArtist(CATALOGUE), [(99, 1.0)]),
        (Contextual(lambda: NEIGHBOURS), [(12, 1.0)]),
        (Indexed(lambda: NEIGHBOURS), [(10, 1.0)]),
        (I2I(lambda: NEIGHBOURS), [(30, 0.0), (12, 1.0), (10, 0.0)]),  # nothing was heard of any seed track
    ],
    ids=named,
)
def test_with_nothing_to_choose_from_there_is_no_answer(recommender: Recommender, heard: Heard) -> None:
    assert recommender.recommend(asked(2, heard)).tracks.tolist() == [NO_ANSWER] * 2


@pytest.mark.parametrize(("bad", "changes"), [(3, False), (4, True), (5, False), (9, True)])
@pytest.mark.parametrize("ahead", [False, True], ids=["worker behind", "worker ahead"])
def test_each_fifth_bad_listen_in_a_row_changes_the_subject(bad: int, changes: bool, ahead: bool) -> None:
    heard = [(20, 1.0)] + [(33, 0.2)] * bad + ([(10, 0.1)] if ahead else [])
    answers = SIMILAR_USERS.recommend(batch_of(300, 10, 0.1, state_of(heard), position=1 + bad))
    assert (set(answers.tracks.tolist()) == {30, 31, 12}) == changes
    assert (answers.policies == ["contextual"] * 300) == changes


def test_a_streak_ends_with_its_session() -> None:
    answers = SIMILAR_USERS.recommend(batch_of(300, 10, 0.0, state_of([(33, 0.0)] * 4, session_id="earlier")))
    assert "sticky_artist" in (answers.policies or ())


@pytest.mark.parametrize("recommender", botifys(CATALOGUE, NEIGHBOURS, CATALOGUE.tracks), ids=named)
def test_an_answer_does_not_depend_on_its_company(recommender: Recommender) -> None:
    rng = np.random.default_rng(5)
    requests, states = [], []
    for i in range(60):
        heard = [(int(track), float(rng.random())) for track in rng.choice(CATALOGUE.tracks, rng.integers(0, 14))]
        last = int(rng.choice(CATALOGUE.tracks)), round(rng.random(), 1)
        requests.append(request_of(*last, len(heard), request_id=f"r{i}", user=10 + i % 3))
        states.append(state_of(heard) if heard else None)
    together = recommender.recommend(Batch.of(requests, states))
    for i, (request, state) in enumerate(zip(requests, states, strict=True)):
        alone = recommender.recommend(Batch.of([request], [state]))
        assert (alone.tracks[0], alone.propensities[0]) == (together.tracks[i], together.propensities[i])


def test_recent_listens_are_the_newest_first_and_hold_the_requests_own_once() -> None:
    heard = [(track, track / 100) for track in range(1, 6)]
    behind, ahead = state_of(heard), state_of([*heard, (6, 0.06)])
    requests, new = [request_of(6, 0.06, 5)] * 2, request_of(6, 0.06, session_id="next")
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

    reads, is_reachable = 0, True

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
