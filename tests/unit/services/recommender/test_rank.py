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
from botify.services.recommender.registry import RECOMMENDERS
from botify.streams.learner.models.factors import FactorModel, read_factors
from botify.streams.learner.models.next_track_projection import NextTrackProjection, model_of_snapshot
from tests.learning import FinishedSession, learn_sessions
from tests.unit.services.recommender.recommending import NO_INPUTS, batch_of, recommenders_of, state_of

TRACKS = {id_: Track(id_, f"artist {id_ % 5}", None, "jazz" if id_ % 2 else "rock", "x") for id_ in range(10, 40)}
HEARD = [(10, 1.0), (12, 0.9), (14, 0.8)]
N = 500


@pytest.fixture(scope="module")
def rankers() -> dict[str, Recommender]:
    generator = np.random.default_rng(0)
    sessions = [
        FinishedSession(generator.permutation(30)[:8] + 10, generator.random(8).astype(np.float32)) for _ in range(300)
    ]
    learned = FactorModel(TRACKS), NextTrackProjection(TRACKS)
    for model in learned:
        learn_sessions(model, sessions)
    factors, next_track = ServedFactors(read_factors(learned[0].snapshot())), model_of_snapshot(learned[1].snapshot())
    inputs = replace(
        NO_INPUTS,
        top=lambda: np.array([11, 13, 10]),
        factors=lambda: factors,
        next_track=lambda: next_track,
        neighbours=lambda: Lists(np.arange(10, 40), (np.arange(30)[:, None] + [3, 7, 11]) % 30 + 10),
        user_lists=lambda: Lists(np.array([42]), np.array([[30, 31, 10]])),
    )
    return recommenders_of(Catalogue(TRACKS.values()), inputs)


def asked(n: int = N) -> Batch:
    return batch_of(n, *HEARD[-1], state_of(HEARD), position=len(HEARD) - 1)


@pytest.mark.parametrize("name", ["rerank", "next_track"])
def test_the_first_is_what_is_answered_without_exploring(rankers: dict[str, Recommender], name: str) -> None:
    ((most, times),) = Counter(rankers[name].recommend(asked()).tracks.tolist()).most_common(1)
    ranking = rank(rankers[name], asked(1), 5)
    assert most == ranking.tracks[0, 0]
    assert times > 0.9 * N
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


@pytest.mark.parametrize("fraction", [0.8, 0.1])
@pytest.mark.parametrize("name", sorted(RECOMMENDERS.keys() - {"botify", "similar_users"}))
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
    assert set(answers.tracks.tolist()) <= set(every[each > 0].tolist())


def test_a_mixture_has_the_probability_given_the_head_of_the_session(rankers: dict[str, Recommender]) -> None:
    batch, botify = asked(), rankers["botify"]
    answers = botify.recommend(batch)
    _, heads = botify.heads_of(batch, otherwise=1.0)  # type: ignore[attr-defined]
    assert (probability(botify, batch, answers.tracks) * heads == answers.propensities).all()


def test_a_recommender_that_does_not_say_its_probabilities_is_drawn_from(rankers: dict[str, Recommender]) -> None:
    batch, similar_users = batch_of(4_000, 14, 0.1, state_of([*HEARD[:2], (14, 0.1)]), 2), rankers["similar_users"]
    answers = similar_users.recommend(batch)
    assert not hasattr(similar_users, "probability")
    for track in np.unique(answers.tracks)[::4]:
        found = probability(similar_users, batch, np.full(len(batch), track))
        assert found.mean() == pytest.approx(answers.propensities[answers.tracks == track][0], abs=0.01)
