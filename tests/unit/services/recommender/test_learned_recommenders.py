"""The recommenders that learn from the stream, each against what its formula says of a small example."""

from collections.abc import Sequence

import numpy as np
import pytest

from botify.schemas.events import Listen, RecommendationRequest
from botify.services.recommender.candidates import Candidates, liked_before
from botify.services.recommender.dispatch import answer
from botify.services.recommender.protocol import Batch, Recommender
from botify.services.recommender.registry import RecommenderFactory
from botify.services.recommender.sessions import WINDOW, sessions_so_far
from botify.streams.folds.likes import Likes
from botify.streams.learner.models.factors import DIMENSIONS, read_factors
from botify.streams.learner.models.tables import pack
from tests.unit.services.recommender.recommending import CATALOGUE, NO_INPUTS, Heard, state_of


def batch_after(heard: Heard, n: int = 1, likes: Likes | None = None) -> Batch:
    requests = [RecommendationRequest(f"r{i}", 42, "s", len(heard) - 1, *heard[-1], 0, 0) for i in range(n)]
    return Batch.of(requests, [state_of(heard)] * n, [likes] * n)


def likes_of(sessions: Sequence[Heard]) -> Likes:
    likes = Likes()
    for session, heard in enumerate(sessions):
        for at, (track, fraction) in enumerate(heard):
            likes.fold(
                Listen(f"{session}-{at}", 42, track, fraction, at, f"l{session}", at, False, None, {}, None, None)
            )
    return likes


def test_likes_of_sessions_that_began_alike_count_more() -> None:
    likes = likes_of([[(30, 1.0), (31, 0.9), (12, 0.8), (32, 0.2)], [(10, 1.0), (33, 0.6)]])

    def scores(begins_with: int) -> dict[int, float]:
        batch = batch_after([(begins_with, 1.0)], likes=likes)
        return scores_of(liked_before(batch, sessions_so_far(batch, CATALOGUE), CATALOGUE))

    assert scores(30) == pytest.approx({30: 1.0, 31: 0.9, 12: 0.8, 10: 0.3, 33: 0.18})
    assert scores(35) == pytest.approx({30: 0.9, 31: 0.81, 12: 0.72, 10: 0.3, 33: 0.18})
    assert scores(20) == pytest.approx({30: 0.3, 31: 0.27, 12: 0.24, 10: 0.3, 33: 0.18})


def scores_of(found: Candidates) -> dict[int, float]:
    return dict(zip(CATALOGUE.tracks[found.rows].tolist(), found.scores.tolist(), strict=True))


def recommenders() -> dict[str, Recommender]:
    return {one.name: one for one in RecommenderFactory().make(CATALOGUE, NO_INPUTS)}


def test_a_snapshot_of_another_shape_is_refused_when_it_is_read() -> None:
    width = DIMENSIONS + 1
    shapes = {"ids": 2, "tracks": (2, width), "artists": (1, 20), "genres": (0, width), "kept": (17, 2)}
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"\(1, 20\)"):
        read_factors(pack({"artists": ["a"], "genres": []}, arrays))


def test_before_there_is_a_model_the_fallback_sticks_to_the_artist() -> None:
    answered = answer(batch_after([(10, 1.0)]), ["rerank"], recommenders())
    assert answered.recommenders == ["sticky_norepeat"]


@pytest.mark.parametrize("seen", [True, False])
def test_the_session_is_the_same_whoever_was_faster(seen: bool) -> None:
    heard = [(10, 1.0), (11, 0.9), (30, 0.5)]
    state = state_of(heard if seen else heard[:-1])
    request = RecommendationRequest("r", 42, "s", 2, *heard[-1], 0, 0)
    so_far = sessions_so_far(Batch.of([request], [state]), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [10, 11, 30]
    assert so_far.fractions[0, :4].tolist() == pytest.approx([1.0, 0.9, 0.5, 0.0])


def test_of_a_long_session_the_first_and_the_last_listens_are_looked_at() -> None:
    tracks = [10, *([11, 12, 13, 30, 31, 32] * 20)]
    heard = [(track, at / 1_000) for at, track in enumerate(tracks)]
    so_far = sessions_so_far(batch_after(heard), CATALOGUE)
    assert len(so_far.heard) == len(heard)
    looked_at = CATALOGUE.tracks[so_far.rows[0]].tolist()
    assert looked_at == [10, *tracks[-(WINDOW - 1) :]]
    assert so_far.last().tolist() == [WINDOW - 1]


def test_a_session_that_has_just_begun_knows_nothing_of_the_last_one() -> None:
    request = RecommendationRequest("r", 42, "new", 0, 30, 1.0, 0, 0)
    so_far = sessions_so_far(Batch.of([request], [state_of([(10, 1.0), (11, 1.0)])]), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [30]


def test_what_is_not_in_the_catalogue_is_left_out() -> None:
    so_far = sessions_so_far(batch_after([(999, 1.0), (10, 0.8)]), CATALOGUE)
    assert CATALOGUE.tracks[so_far.heard].tolist() == [10]
    assert CATALOGUE.tracks[so_far.seed_tracks].tolist() == [10]
