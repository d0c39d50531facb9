"""Invariant: a track that was never played has the mean chance of the tracks that share its artist or its genre."""

from __future__ import annotations

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.next_track import NEWEST, FreshTracks
from botify.services.recommender.protocol import NO_ANSWER, Ranking
from botify.streams.learner.models.next_track import NextTrack
from tests.unit.streams.learner.models import next_track_reference

ALBUM = None
CATALOGUE = Catalogue(
    [
        Track(1, "a", ALBUM, "rock", "one"),
        Track(2, "a", ALBUM, "rock", "two"),
        Track(3, "b", ALBUM, "jazz", "three"),
        Track(7, "a", ALBUM, "folk", "of an artist that is known"),
        Track(8, "c", ALBUM, "jazz", "of a genre that is known"),
        Track(9, "d", ALBUM, None, "of which nothing is known"),
    ]
)
CHANCES = np.array([[0.5, 0.3, 0.2], [0.6, 0.0, 0.0]])
with np.errstate(divide="ignore"):
    RANKING = Ranking(np.array([[1, 3, 2], [3, NO_ANSWER, NO_ANSWER]]), np.log(CHANCES) + 4.0)
NONE_EXCLUDED = np.zeros((2, 2), dtype=np.bool_)


def knowing(*tracks: int) -> NextTrack:
    model = NextTrack(run=next_track_reference)
    model.learn([1] * len(tracks), tracks, [1.0] * len(tracks), range(len(tracks)))
    return model


FRESH = FreshTracks(CATALOGUE)
UNKNOWN = FRESH.unknown_to(knowing(1, 2, 3))


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


def test_what_is_excluded_and_what_has_no_company_among_the_best_is_not_ranked() -> None:
    excluded = np.array([[True, False], [False, True]])
    ranking = FRESH.insert(RANKING, UNKNOWN, excluded, 4)
    assert ranking.tracks.tolist() == [[1, 3, 2, 8], [3, NO_ANSWER, NO_ANSWER, NO_ANSWER]]
    assert not np.isnan(ranking.scores).any()


def test_a_request_without_any_answer_stays_without() -> None:
    nothing = Ranking(np.full((1, 3), NO_ANSWER), np.full((1, 3), -np.inf))
    ranking = FRESH.insert(nothing, UNKNOWN, NONE_EXCLUDED[:1], 3)
    assert ranking.tracks.tolist() == nothing.tracks.tolist()
    assert ranking.scores.tolist() == nothing.scores.tolist()


def test_only_tracks_that_share_an_artist_or_a_genre_are_eligible() -> None:
    assert FreshTracks(CATALOGUE).tracks.tolist() == [1, 2, 3, 7, 8]
    assert not len(FreshTracks(Catalogue([Track(n, f"{n}", None, None, f"{n}") for n in range(5)])).tracks)
    assert not len(FreshTracks(Catalogue([])).tracks)


def test_only_the_newest_are_eligible() -> None:
    catalogue = Catalogue([Track(n, "a", None, None, f"{n}") for n in range(2 * NEWEST)])
    assert FreshTracks(catalogue).tracks.tolist() == list(range(NEWEST, 2 * NEWEST))


def test_each_snapshot_is_asked_what_it_knows() -> None:
    fresh = FreshTracks(CATALOGUE)
    before, after = knowing(1, 2), knowing(1, 2, 3, 7)
    assert fresh.unknown_to(before).tracks.tolist() == [3, 7, 8]
    assert fresh.unknown_to(before) is fresh.unknown_to(before)
    assert fresh.unknown_to(after).tracks.tolist() == [8]
    assert fresh.unknown_to(before).tracks.tolist() == [3, 7, 8]
