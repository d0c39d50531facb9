"""The recommender `next_track`: what it takes for a history, and that it answers as it logs."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.schemas.sketches import sketch_of
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import answer
from botify.services.recommender.next_track import BEST, NEWEST, FreshTracks, NextTrackRecommender
from botify.services.recommender.protocol import NO_ANSWER, Batch, Ranking
from botify.services.recommender.rerank import EXPLORE
from botify.services.recommender.sessions import histories_of
from botify.streams.folds.users import HISTORY_LISTENS
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import model_of_snapshot, snapshot_of
from botify.streams.learner.models.next_track_state import SHOWN
from tests.unit.services.recommender.recommending import (
    NO_INPUTS,
    Heard,
    batch_of,
    check_frequencies,
    recommenders_of,
    request_of,
    state_of,
)

TRACKS = 60
TRACKS_OF_ONE = [Track(track, f"artist of {track}", None, None, "x") for track in range(TRACKS)]
CATALOGUE = Catalogue(TRACKS_OF_ONE)
HEARD: Heard = [(10, 1.0), (12, 0.9), (14, 0.8)]


def learned(users: Any, tracks: Any, times_ms: Any = None) -> NextTrack:
    model = NextTrack()
    model.learn(users, tracks, np.ones(len(users)), range(1, len(users) + 1) if times_ms is None else times_ms)
    return model


@pytest.fixture(scope="module")
def model() -> NextTrack:
    """Learned that listeners keep to groups of 20 tracks."""
    rng = np.random.default_rng(2)
    users = rng.integers(0, 30, 3_000)
    tracks = users % 3 * 20 + rng.integers(0, 20, 3_000)
    return learned(users, tracks, times_ms=np.arange(1, 3_001) * 1_000)


@pytest.fixture(scope="module")
def served(model: NextTrack) -> NextTrack:
    return model_of_snapshot(snapshot_of(model, 1 << 24).body)


@pytest.fixture(scope="module")
def recommender(served: NextTrack) -> NextTrackRecommender:
    return NextTrackRecommender(CATALOGUE, lambda: served)


def asked(heard: Heard, n: int = 1) -> Batch:
    """Requests after the last listen, which the state has."""
    return batch_of(n, *heard[-1], state_of(heard), position=len(heard) - 1)


def test_the_history_goes_beyond_the_session() -> None:
    request, state = request_of(30, 0.5, session_id="new", timestamp_ms=9_000_000), state_of(HEARD)
    tracks, fractions, times_ms, _, asked_ms = histories_of(Batch.of([request], [state]))
    assert (tracks.tolist(), fractions.tolist()) == ([10, 12, 14, 30], [1.0, 0.9, 0.8, 0.5])
    assert times_ms.tolist() == [*state.last_listens()["timestamp_ms"].tolist(), 9_000_000]
    assert asked_ms.tolist() == [9_000_000]


def test_what_the_request_says_was_shown_and_not_heard_since_counts(served: NextTrack) -> None:
    taught = NextTrack.from_arrays(served.about(), {name: array.copy() for name, array in served.arrays().items()})
    taught.arrays()["stacker"][0, SHOWN] = -9.0  # as if listeners never took what they had ignored
    recommender, plain = NextTrackRecommender(CATALOGUE, lambda: taught), asked(HEARD)
    best = recommender.rank(plain, 5).tracks[0].tolist()
    (request,), (state,) = plain.requests, plain.states
    heard_ms = state_of(HEARD).last_listens()["timestamp_ms"].tolist()
    slate = {"impressions": [best[0], 12], "impressions_ms": [heard_ms[-1] + 1, heard_ms[1] - 1]}
    after = request._replace(slate=slate, timestamp_ms=heard_ms[-1] + 2)
    first, second = recommender.rank(Batch.of([request, after], [state] * 2), 5).tracks.tolist()
    assert first == best
    assert second[:4] == best[1:]


def test_what_a_long_session_heard_first_only_excludes(recommender: NextTrackRecommender) -> None:
    heard = [(track % TRACKS, 1.0) for track in range(HISTORY_LISTENS + 7)]
    tracks, fractions, times_ms, lengths, _ = histories_of(asked(heard))
    assert times_ms[:7].tolist() == [0] * 7
    assert lengths.tolist() == [HISTORY_LISTENS + 7]
    assert tracks.tolist() == [track for track, _ in heard]
    assert fractions.tolist() == [0.0] * 7 + [1.0] * HISTORY_LISTENS
    assert not {track for track, _ in heard} & set(recommender.rank(asked(heard), TRACKS).tracks[0].tolist())


def test_it_ranks_exactly_as_the_learners_model_does_for_that_history(
    model: NextTrack, recommender: NextTrackRecommender
) -> None:
    expected, scores = model.rank_histories(*map(np.array, zip(*HEARD, strict=True)), [3], 10)
    ranking = recommender.rank(asked(HEARD), 10)
    assert ranking.tracks.tolist() == expected.tolist()
    assert ranking.scores.tolist() == scores.tolist()


def test_answers_are_drawn_as_often_as_is_logged(recommender: NextTrackRecommender) -> None:
    first, *others = recommender.rank(asked(HEARD), BEST).tracks[0].tolist()
    expected = {first: 1 - EXPLORE + EXPLORE / BEST, **dict.fromkeys(others, EXPLORE / BEST)}
    assert len(expected) == BEST
    check_frequencies(recommender, asked(HEARD, n=40_000), expected)


def test_a_track_that_is_not_in_the_catalogue_is_left_out(served: NextTrack, recommender: NextTrackRecommender) -> None:
    first, second = recommender.rank(asked(HEARD), 2).tracks[0].tolist()
    smaller = Catalogue([track for track in TRACKS_OF_ONE if track.track != first])
    ranking = NextTrackRecommender(smaller, lambda: served).rank(asked(HEARD), 2)
    assert ranking.tracks[0].tolist() == [second, NO_ANSWER]
    assert np.isinf(ranking.scores[0]).tolist() == [False, True]


NEW = TRACKS
"""Comes into the catalogue after all that the model learned."""


def with_new(served: NextTrack, artist: str, genre: str | None) -> NextTrackRecommender:
    """A recommender whose catalogue tells groups of 20 tracks by their artist, as listeners keep to them."""
    tracks = [Track(track, f"artist {track // 20}", None, None, "x") for track in range(TRACKS)]
    return NextTrackRecommender(Catalogue([*tracks, Track(NEW, artist, None, genre, "new")]), lambda: served)


def test_a_new_track_is_recommended_before_its_first_play_to_who_hears_its_artist(served: NextTrack) -> None:
    recommender = with_new(served, "artist 0", None)
    assert NEW in recommender.recommend(asked(HEARD, n=4_000)).tracks
    near, far = (recommender.rank(asked(heard), BEST).tracks[0] for heard in (HEARD, [(50, 1.0), (52, 0.9), (54, 0.8)]))
    assert NEW in near
    assert NEW not in far


def test_a_new_track_leaves_the_others_in_their_order(served: NextTrack, recommender: NextTrackRecommender) -> None:
    ranking, expected = (of.rank(asked(HEARD), TRACKS) for of in (with_new(served, "artist 0", None), recommender))
    others = ranking.tracks[0] != NEW
    assert ranking.tracks[0][others].tolist() == expected.tracks[0, : others.sum()].tolist()
    assert ranking.scores[0][others].tolist() == expected.scores[0, : others.sum()].tolist()


@pytest.mark.parametrize("genre", [None, "genre"])
def test_a_catalogue_without_content_ranks_as_before(
    served: NextTrack, recommender: NextTrackRecommender, genre: str | None
) -> None:
    without_content = with_new(served, "artist of its own", genre)
    ranking, expected = (of.rank(asked(HEARD), 30) for of in (without_content, recommender))
    assert ranking.tracks.tolist() == expected.tracks.tolist()
    assert ranking.scores.tolist() == expected.scores.tolist()


def test_before_there_is_a_model_or_an_event_the_top_answers() -> None:
    for model in (None, NextTrack()):
        inputs = replace(NO_INPUTS, top=lambda: np.array([5]), next_track=lambda model=model: model)
        answered = answer(asked(HEARD), ["next_track"], recommenders_of(CATALOGUE, inputs))
        assert answered.recommenders == ["toppop"]


def test_who_has_heard_all_that_the_model_knows_is_left_to_the_fallback() -> None:
    model, batch = learned([1] * 3, [10, 12, 14]), asked(HEARD)
    other = Batch.of([*batch.requests, request_of(10, user=7, session_id="o")], [*batch.states, None])
    answers = NextTrackRecommender(CATALOGUE, lambda: model).recommend(other)
    assert (answers.tracks[0], answers.propensities[0]) == (NO_ANSWER, 0.0)
    assert answers.tracks[1] in (12, 14)


WITH_FRESH = Catalogue(
    [
        Track(1, "a", None, "rock", "one"),
        Track(2, "a", None, "rock", "two"),
        Track(3, "b", None, "jazz", "three"),
        Track(7, "a", None, "folk", "of an artist that is known"),
        Track(8, "c", None, "jazz", "of a genre that is known"),
        Track(9, "d", None, None, "of which nothing is known"),
    ]
)
CHANCES = np.array([[0.5, 0.3, 0.2], [0.6, 0.0, 0.0]])
with np.errstate(divide="ignore"):
    RANKING = Ranking(np.array([[1, 3, 2], [3, NO_ANSWER, NO_ANSWER]]), np.log(CHANCES) + 4.0)
NONE_EXCLUDED = np.zeros((2, 2), dtype=np.bool_)


KNOWING = learned([1] * 3, [1, 2, 3])
FRESH = FreshTracks(WITH_FRESH)
UNKNOWN = FRESH.unknown_to(KNOWING)


def chances_of(ranking: Ranking, row: int) -> dict[int, float]:
    """The chance of each track, in order; scores are logarithms up to a constant."""
    return {
        track: float(np.exp(score - 4.0))
        for track, score in zip(ranking.tracks[row].tolist(), ranking.scores[row].tolist(), strict=True)
        if track != NO_ANSWER
    }


def test_a_fresh_track_has_the_mean_chance_of_its_artist_or_of_its_genre() -> None:
    ranking = FRESH.insert(RANKING, UNKNOWN, NONE_EXCLUDED, 5)
    # three tracks are by the artist and two of the genre, those that are fresh among them
    assert chances_of(ranking, 0) == pytest.approx({1: 0.5, 3: 0.3, 7: 0.7 / 3, 2: 0.2, 8: 0.3 / 2})
    assert list(chances_of(ranking, 0)) == [1, 3, 7, 2, 8]
    assert chances_of(ranking, 1) == pytest.approx({3: 0.6, 8: 0.3})


def test_a_fresh_track_with_a_vector_has_the_mean_chance_of_what_it_is_like() -> None:
    vectors = {1: [1, 0.0], 2: [1, 1e-9], 3: [-1, 0], 7: [2, 0], 8: [-3, 0]}
    tracks = [Track(n, f"artist {n}", None, "rock", "x", sketch=sketch_of(vectors[n])) for n in sorted(vectors)]
    tracks.append(Track(9, "artist 1", None, None, "of an artist that is known"))
    catalogue = Catalogue(tracks)
    fresh = FreshTracks(catalogue)
    unknown = fresh.unknown_to(KNOWING)
    assert unknown.tracks.tolist() == [7, 8, 9]
    excluded = np.zeros((2, 3), dtype=np.bool_)
    ranking = fresh.insert(RANKING, unknown, excluded, 6)
    # 7 is like 1, 2 and itself, 8 like 3 and itself; all are of one genre, which does not count for them
    assert chances_of(ranking, 0) == pytest.approx({1: 0.5, 3: 0.3, 9: 0.25, 7: 0.7 / 3, 2: 0.2, 8: 0.3 / 2})
    assert chances_of(ranking, 1) == pytest.approx({3: 0.6, 8: 0.3})
    alone = fresh.insert(Ranking(RANKING.tracks[:1], RANKING.scores[:1]), unknown, excluded[:1], 6)
    assert alone.scores[0].tobytes() == ranking.scores[0].tobytes()  # whatever else is in the batch
    assert catalogue.label != Catalogue([track._replace(sketch=None) for track in tracks]).label


def test_what_is_excluded_and_what_has_no_company_among_the_best_is_not_ranked() -> None:
    excluded = np.array([[True, False], [False, True]])
    ranking = FRESH.insert(RANKING, UNKNOWN, excluded, 4)
    assert ranking.tracks.tolist() == [[1, 3, 2, 8], [3, NO_ANSWER, NO_ANSWER, NO_ANSWER]]
    assert not np.isnan(ranking.scores).any()


def test_only_the_newest_tracks_that_share_an_artist_or_a_genre_are_eligible() -> None:
    assert FreshTracks(WITH_FRESH).tracks.tolist() == [1, 2, 3, 7, 8]
    assert not len(FreshTracks(CATALOGUE).tracks)
    assert not len(FreshTracks(Catalogue([])).tracks)
    catalogue = Catalogue([Track(n, "a", None, None, f"{n}") for n in range(2 * NEWEST)])
    assert FreshTracks(catalogue).tracks.tolist() == list(range(NEWEST, 2 * NEWEST))
