"""`rank` and `probability` go by the same values as `recommend`."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.services.recommender.baselines import RandomTracks
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.lists import Lists
from botify.services.recommender.protocol import NO_ANSWER, Batch, Recommender, probability, rank
from botify.services.recommender.registry import RecommenderFactory
from botify.streams.learner.models.factors import FactorModel, read_factors
from botify.streams.learner.models.next_track_projection import NextTrackProjection, model_of_snapshot
from tests.learning import FinishedSession, learn_sessions
from tests.unit.services.recommender.recommending import NO_INPUTS, batch_of, state_of

TRACKS = {id_: Track(id_, f"artist {id_ % 5}", None, "jazz" if id_ % 2 else "rock", "x") for id_ in range(10, 40)}
NEIGHBOURS = Lists(np.arange(10, 40), (np.arange(30)[:, None] + [3, 7, 11]) % 30 + 10)
HEARD = [(10, 1.0), (12, 0.9), (14, 0.8)]
N = 500


@pytest.fixture(scope="module")
def rankers() -> dict[str, Recommender]:
    generator = np.random.default_rng(0)
    sessions = [
        FinishedSession(generator.permutation(30)[:8] + 10, generator.random(8).astype(np.float32)) for _ in range(300)
    ]
    factors, next_track = FactorModel(TRACKS), NextTrackProjection(TRACKS)
    for model in (factors, next_track):
        learn_sessions(model, sessions)
    served_factors = ServedFactors(read_factors(factors.snapshot()))
    served_next_track = model_of_snapshot(next_track.snapshot())
    inputs = replace(
        NO_INPUTS,
        top=lambda: np.array([11, 13, 10]),
        factors=lambda: served_factors,
        next_track=lambda: served_next_track,
        neighbours=lambda: NEIGHBOURS,
        user_lists=lambda: Lists(np.array([42]), np.array([[30, 31, 10]])),
    )
    made = RecommenderFactory().make(Catalogue(TRACKS.values()), inputs)
    return {one.name: one for one in made}


def asked(n: int = N) -> Batch:
    return batch_of(n, *HEARD[-1], state_of(HEARD), position=len(HEARD) - 1)


@pytest.mark.parametrize("name", ["rerank", "next_track"])
def test_the_first_is_what_is_answered_without_exploring(rankers: dict[str, Recommender], name: str) -> None:
    answered = Counter(rankers[name].recommend(asked()).tracks.tolist())
    ranking = rank(rankers[name], asked(1), 5)
    assert answered.most_common(1)[0] == (ranking.tracks[0, 0], max(answered.values()))
    assert answered.most_common(1)[0][1] > 0.9 * N
    assert (np.diff(ranking.scores[0]) <= 0).all()


@pytest.mark.parametrize("name", ["rerank", "next_track"])
def test_nothing_heard_and_nothing_twice(rankers: dict[str, Recommender], name: str) -> None:
    tracks = rank(rankers[name], asked(3), 40).tracks
    there = tracks[0][tracks[0] != NO_ANSWER].tolist()
    assert len(there) == len(set(there)) > 5
    assert not set(there) & {track for track, _ in HEARD}
    assert (tracks == tracks[0]).all()


@pytest.mark.parametrize("k", [3, 10, 50])
def test_random_ranks_different_tracks_evenly(k: int) -> None:
    tracks = RandomTracks(Catalogue(TRACKS.values())).rank(asked(3_000), k).tracks
    there = tracks[:, : min(k, len(TRACKS))]
    assert (np.diff(np.sort(there, axis=1)) > 0).all()
    assert (tracks[:, len(TRACKS) :] == NO_ANSWER).all()
    counts = np.bincount(there[:, 0])[10:]
    assert counts.min() > 60
    assert len(counts) == len(TRACKS)


EXACT = ("random", "toppop", "sticky_artist", "sticky_artist_mixed", "sticky_norepeat", "contextual", "indexed", "i2i")


@pytest.mark.parametrize("fraction", [0.8, 0.1])
@pytest.mark.parametrize("name", [*EXACT, "rerank", "next_track"])
def test_the_probability_of_an_answer_is_its_propensity_and_that_of_all_tracks_is_one(
    rankers: dict[str, Recommender], name: str, fraction: float
) -> None:
    batch = batch_of(N, 14, fraction, state_of([*HEARD[:2], (14, fraction)]), position=2)
    answers = rankers[name].recommend(batch)
    found = probability(rankers[name], batch, answers.tracks)
    assert found.tobytes() == answers.propensities.tobytes()
    every = np.array([*TRACKS, 999, NO_ANSWER])
    each = probability(rankers[name], batch.select(np.zeros(len(every), dtype=np.int64)), every)
    assert each.sum() == pytest.approx(1.0)
    assert each[-2:].tolist() == [0.0, 0.0]
    drawn = set(answers.tracks.tolist())
    assert drawn <= set(every[each > 0].tolist())


def test_a_mixture_has_the_probability_given_the_head_of_the_session(rankers: dict[str, Recommender]) -> None:
    batch = asked()
    of = rankers["botify"]
    answers, found = of.recommend(batch), probability(of, batch, of.recommend(batch).tracks)
    _, heads = of.heads_of(batch, otherwise=1.0)  # type: ignore[attr-defined]
    assert (found * heads == answers.propensities).all()


def test_a_recommender_that_does_not_say_its_probabilities_is_drawn_from(rankers: dict[str, Recommender]) -> None:
    batch = batch_of(4_000, 14, 0.1, state_of([*HEARD[:2], (14, 0.1)]), position=2)
    answers = rankers["similar_users"].recommend(batch)
    assert not hasattr(rankers["similar_users"], "probability")
    for track in np.unique(answers.tracks)[::4]:
        found = probability(rankers["similar_users"], batch, np.full(len(batch), track))
        assert found.mean() == pytest.approx(answers.propensities[answers.tracks == track][0], abs=0.01)
