"""Invariant: what is found in logits is what valuing every offered track would find."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit

import botify.services.recommender.clusters as clustering
import botify.services.recommender.factors as serving
from botify.schemas.events import Track
from botify.schemas.track_columns import UNKNOWN, labels_of
from botify.services.recommender.candidates import (
    AGREES,
    DIFFERS,
    HALF,
    MOST_ALIKE,
    SAME_TRACK,
    STEEP,
    liked_before,
)
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.clusters import Clusters, Coded, nearest_clusters
from botify.services.recommender.dispatch import answer
from botify.services.recommender.factors import FIRST_HEARD, MOST_HEARD, OfferedTracks, ServedFactors
from botify.services.recommender.protocol import NO_ANSWER, Batch
from botify.services.recommender.rerank import Rerank
from botify.services.recommender.sessions import SessionsSoFar, sessions_so_far
from botify.streams.learner.models.factors import (
    DIMENSIONS,
    INDIFFERENT,
    MOST_EARLIER,
    FactorModel,
    Factors,
    read_factors,
)
from botify.streams.learner.models.scoring import user_biases, weights
from botify.streams.learner.models.tables import pack
from tests.learning import FinishedSession, learn_sessions
from tests.support import make_tracks
from tests.unit.services.recommender.recommending import CATALOGUE as FEW
from tests.unit.services.recommender.recommending import batch_after, likes_of, recommenders_of, request_of, state_of

TRACKS = {
    id_: Track(id_, f"a{id_ % 17}", None, f"g{id_ % 3}", "x", mood=f"m{id_ % 5}" if id_ % 2 else None)
    for id_ in range(5, 125)
}
CATALOGUE = Catalogue(TRACKS.values())
LABELS_OF_ROWS = labels_of(TRACKS.values())


@pytest.fixture(scope="module")
def learned() -> Factors:
    rng = np.random.default_rng(5)
    model = FactorModel(TRACKS)
    for _ in range(20):
        heard = ((rng.integers(5, 125, size=8), rng.random(8, dtype=np.float32).clip(0.01)) for _ in range(32))
        learn_sessions(model, [FinishedSession(*one) for one in heard])
    return read_factors(model.snapshot())


@pytest.fixture(scope="module")
def factors(learned: Factors) -> ServedFactors:
    return ServedFactors(learned)


def matches_of(so_far: SessionsSoFar, session: int) -> NDArray[np.float32]:
    """How labels of every track would match, were it the session's next listen; shape (tracks, labels)."""
    heard = so_far.rows[session, so_far.valid[session]]
    weight = weights(so_far.fractions, so_far.valid)[session, : len(heard)]
    same = (LABELS_OF_ROWS[:, None] == LABELS_OF_ROWS[heard]) & (LABELS_OF_ROWS != UNKNOWN)[:, None]
    return (same * weight[:, None]).sum(axis=1) / np.sqrt(len(heard))


def batch_of_sessions(n: int) -> Batch:
    rng = np.random.default_rng(3)
    heard = [
        [(int(track), float(rng.random())) for track in rng.choice(np.arange(5, 125), rng.integers(1, 40), False)]
        for _ in range(n)
    ]
    requests = [request_of(*one[-1], len(one) - 1, request_id=f"r{at}", user=at) for at, one in enumerate(heard)]
    liked = [[one[0][0], *rng.integers(5, 125, size=12).tolist()] for one in heard]
    likes = [likes_of([(track, 0.9) for track in tracks]) for tracks in liked]
    return Batch.of(requests, [state_of(one) for one in heard], likes)


def test_logits_are_those_of_taste_artists_labels_and_earlier_sessions(
    factors: ServedFactors, learned: Factors
) -> None:
    batch = batch_of_sessions(30)
    so_far = sessions_so_far(batch, CATALOGUE)
    table = factors.table(CATALOGUE)
    liked, kept = table.liked(so_far)
    before = liked_before(batch, so_far, CATALOGUE, table.cosines)
    assert len(set(before.sessions.tolist())) > 10
    offered = OfferedTracks(so_far, table, before)
    remembered = offered.others.scores[len(offered.others.scores) - len(before.rows) :]
    rows, values, free = offered.best()
    every = np.arange(len(CATALOGUE))
    for session in range(len(batch)):
        here = np.full(len(every), session)
        heard = so_far.heard[so_far.session_of == session]
        of_artist = np.array([np.sum(CATALOGUE.artist_of[heard] == CATALOGUE.artist_of[row]) for row in every])
        vectors = table.tracks.vectors[table.clusters.place_of]
        of_listener = before.sessions == session
        then, alike, fractions = before.rows[of_listener], before.alike[of_listener], before.fractions[of_listener]
        listens, first = np.sum(liked.valid[session]), before.first[of_listener]
        added = (alike * np.where(first, 1, fractions - INDIFFERENT)) @ vectors[then]
        taste = (table.taste(liked)[session] * np.sqrt(listens) + added) / np.sqrt(listens + alike.sum())
        taste[-1] = 1
        expected = vectors @ taste + matches_of(liked, session) @ learned.matches
        of_session = expected[liked.rows[session]][None], liked.fractions[session][None], kept[session][None].copy()
        of_session[2][:, 0] = 0
        bias = user_biases(*of_session)[0, -1]
        left, predicted = learned.kept[np.minimum(of_artist, MOST_EARLIER)], expit(expected + bias)
        known = np.where(first, FIRST_HEARD, np.minimum(fractions, MOST_HEARD))
        mixed = predicted[then] + alike * (known - predicted[then])
        assert remembered[of_listener] == pytest.approx(logit(left[then] * mixed) - bias, rel=1e-3, abs=1e-3)
        expected = logit(left * predicted) - bias
        assert offered.logits(here, every) == pytest.approx(expected, rel=1e-4, abs=1e-4)
        expected[np.isin(every, heard) | ~offered.offers(here, every)] = -np.inf
        assert values[session] == pytest.approx(expected.max(), rel=1e-4)
        assert expected[rows[session]] == pytest.approx(expected.max(), rel=1e-4)
        assert sorted(offered.free_rows(session).tolist()) == np.flatnonzero(np.isfinite(expected)).tolist()
        assert free[session] == len(offered.free_rows(session))


def measured_clusters(rows: Any) -> Clusters:
    clusters = Clusters(nearest_clusters(Coded(rows)))
    return clusters.measured(rows[clusters.order])


def test_clusters_hold_every_row_once_and_what_is_alike_together() -> None:
    rng = np.random.default_rng(1)
    kinds = rng.integers(0, 6, size=1_500)
    rows = (rng.normal(size=(6, 8))[kinds] + 0.05 * rng.normal(size=(1_500, 8))).astype(np.float32)
    clusters = measured_clusters(rows)
    assert sorted(clusters.order.tolist()) == list(range(1_500))
    assert clusters.size.sum() == 1_500
    for cluster, (start, size) in enumerate(zip(clusters.start.tolist(), clusters.size.tolist(), strict=True)):
        inside = clusters.order[start : start + size]
        assert (clusters.cluster_of[inside] == cluster).all()
        assert clusters.place_of[inside].tolist() == list(range(start, start + size))
        assert clusters.centres[cluster] == pytest.approx(rows[inside].mean(axis=0), abs=1e-5)
    together = [np.bincount(kinds[clusters.cluster_of == cluster]).max() for cluster in range(len(clusters.size))]
    assert sum(together) > 0.8 * len(rows)


def test_a_session_that_has_had_all_that_it_is_offered_gets_no_answer(factors: ServedFactors) -> None:
    batch = batch_after([(id_, 0.9) for id_ in TRACKS])
    assert Rerank(CATALOGUE, lambda: factors).recommend(batch).tracks.tolist() == [NO_ANSWER]


def test_nothing_is_offered_twice_and_company_makes_no_difference(factors: ServedFactors) -> None:
    recommender = Rerank(CATALOGUE, lambda: factors)
    batch = batch_of_sessions(60)
    answers = recommender.recommend(batch)
    for session, state in enumerate(batch.states):
        assert state is not None
        assert answers.tracks[session] not in state.session_tracks().tolist()
        alone = recommender.recommend(batch.select(np.array([session])))
        assert alone.tracks[0] == answers.tracks[session]
        assert alone.propensities[0] == pytest.approx(answers.propensities[session])


def test_values_are_equal_in_every_bit_whoever_else_is_in_the_batch(factors: ServedFactors) -> None:
    """Otherwise `botify why` could not compute an answer again."""
    recommender, rng = Rerank(CATALOGUE, lambda: factors), np.random.default_rng(1)
    heard = [[(int(track), float(rng.random())) for track in rng.integers(5, 125, size=30)] for _ in range(64)]
    liked = [[track for track, _ in one[:8]] + rng.integers(5, 125, size=8).tolist() for one in heard]
    likes = [likes_of([(track, 0.9) for track in one]) for one in liked]
    requests = [request_of(*one[-1], 29, request_id=f"r{at}", user=at) for at, one in enumerate(heard)]
    batch = Batch.of(requests, [state_of(one) for one in heard], likes)
    together = recommender.rank(batch, 20).scores
    for session in range(len(batch)):
        alone = recommender.rank(batch.select(np.array([session])), 20).scores[0]
        assert alone.tolist() == together[session].tolist()


def test_a_large_batch_is_valued_in_parts(
    learned: Factors, factors: ServedFactors, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batch_of_sessions(60)
    monkeypatch.setattr(serving, "ROWS_AT_ONCE", 7 * len(CATALOGUE))
    small = ServedFactors(learned)
    whole, in_parts = Rerank(CATALOGUE, lambda: factors), Rerank(CATALOGUE, lambda: small)
    assert small.table(CATALOGUE).sessions_at_once == 7
    for one, other in zip(whole.recommend(batch)[:3], in_parts.recommend(batch)[:3], strict=True):
        assert np.array_equal(one, other)
    assert np.array_equal(whole.rank(batch, 10).tracks, in_parts.rank(batch, 10).tracks)


def test_clusters_are_kept_for_as_long_as_they_hold_what_is_alike(
    learned: Factors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "CLUSTER_TRACKS", 4)
    few = ServedFactors(learned)
    of_few = few.table(CATALOGUE)
    assert ServedFactors(learned, few).table(CATALOGUE).clusters.order is of_few.clusters.order
    assert ServedFactors(moved(learned, 3.0), few).table(CATALOGUE).clusters.order is not of_few.clusters.order
    monkeypatch.setattr(clustering, "MOST_CLUSTERS", 20)
    first = ServedFactors(learned)
    cut, later = first.table(CATALOGUE), ServedFactors(moved(learned, 0.01), first).table(CATALOGUE)
    assert later.clusters.order is cut.clusters.order
    assert later.clusters.is_loose is False
    vectors = later.tracks.vectors[later.clusters.place_of]
    for cluster, centre in enumerate(later.clusters.centres):
        assert centre == pytest.approx(vectors[later.clusters.cluster_of == cluster].mean(axis=0), abs=1e-5)
    turned = ServedFactors(moved(learned, 3.0), first).table(CATALOGUE)
    grown = ServedFactors(learned, first).table(Catalogue([*TRACKS.values(), TRACKS[5]._replace(track=9_999)]))
    for table in (turned, grown):
        assert table.clusters.order is not cut.clusters.order


def moved(learned: Factors, far: float) -> Any:
    """Factors after every track has moved so far, each on its own way."""
    ways = np.random.default_rng(2).normal(scale=far, size=(len(CATALOGUE), 1))
    return SimpleNamespace(
        by_value=1.0,
        of=lambda tracks, *labels: (learned.of(tracks, *labels) + ways[CATALOGUE.rows_of(tracks)]).astype(np.float32),
        kept=learned.kept,
        matches=learned.matches,
    )


def test_rerank_prefers_what_was_liked_before_where_the_factors_say_no_more(factors: ServedFactors) -> None:
    batch = batch_of_sessions(200)
    without = replace(batch, likes=[None] * 200)
    rerank = Rerank(CATALOGUE, lambda: factors)
    liked = [set(likes.all()["track"].tolist()) for likes in batch.likes if likes is not None]
    hits = [
        sum(track in tracks for track, tracks in zip(rerank.recommend(one).tracks.tolist(), liked, strict=True))
        for one in (batch, without)
    ]
    assert hits[0] > hits[1]


def test_rerank_adds_what_was_liked_before_to_what_the_clusters_offer(
    learned: Factors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clustering, "CLUSTER_TRACKS", 4)
    monkeypatch.setattr(serving, "OFFERED_CLUSTERS", 1)
    factors, request = ServedFactors(learned), request_of(5)
    rerank = Rerank(CATALOGUE, lambda: factors)
    offered = set(rerank.rank(Batch.of([request], [None]), len(TRACKS)).tracks[0].tolist())
    far = next(track for track in TRACKS if track not in offered | {5})
    batch = Batch.of([request], [None], [likes_of([(far, 1.0)])])
    assert set(rerank.rank(batch, len(TRACKS)).tracks[0].tolist()) == offered | {far}
    near = (offered - {NO_ANSWER}).pop()
    assert rerank.because(batch, np.array([far, near])).tolist() == [far, NO_ANSWER]


@pytest.mark.parametrize(
    ("heard", "cosine", "first", "second"),
    [
        ([(20, 1.0)], HALF, 0.0, 0.0),
        ([(20, 1.0)], HALF + 0.1, 0.1 * STEEP, 0.1 * STEEP),
        ([(20, 1.0)], 1.0, MOST_ALIKE, MOST_ALIKE),
        ([(20, 1.0)], -1.0, None, None),
        ([(30, 1.0)], -1.0, SAME_TRACK + AGREES, None),
        ([(20, 1.0), (31, 0.9)], HALF, AGREES, 0.0),
        ([(20, 1.0), (31, 0.6)], HALF, AGREES - 0.3 * DIFFERS, 0.0),
        ([(20, 1.0), (31, 0.1)], HALF, AGREES - 0.8 * DIFFERS, 0.0),
    ],
    ids=str,
)
def test_sessions_are_alike_by_their_first_tracks_and_by_what_both_heard(
    heard: list[tuple[int, float]], cosine: float, first: float | None, second: float | None
) -> None:
    likes = likes_of([(30, 1.0), (31, 0.9), (12, 0.8), (32, 0.2)], [(10, 1.0), (33, 0.6)])
    batch = batch_after(heard, likes=likes)
    found = liked_before(batch, sessions_so_far(batch, FEW), FEW, lambda rows, others: np.full(len(rows), cosine))
    alike = dict(zip(FEW.tracks[found.rows].tolist(), found.alike.tolist(), strict=True))
    of_sessions = {30: first, 31: first, 12: first, 10: second, 33: second}
    expected = {track: expit(odds) for track, odds in of_sessions.items() if odds is not None}
    assert alike == pytest.approx({track: p for track, p in expected.items() if track not in dict(heard)})


def test_a_snapshot_of_another_shape_is_refused_when_it_is_read() -> None:
    width = DIMENSIONS + 1
    shapes = {"ids": 2, "tracks": (2, width), "artists": (1, 20), "genres": (0, width), "kept": (17, 2)}
    arrays = {name: np.zeros(shape) for name, shape in shapes.items()}
    with pytest.raises(ValueError, match=r"\(1, 20\)"):
        read_factors(pack({"artists": ["a"], "genres": []}, arrays))


def test_before_there_is_a_model_the_fallback_sticks_to_the_artist() -> None:
    answered = answer(batch_after([(10, 1.0)]), ["rerank"], recommenders_of(FEW))
    assert answered.recommenders == ["sticky_norepeat"]


def test_new_tracks_join_the_clusters_of_their_artists_until_they_are_many() -> None:
    """The clusters of a catalogue that grows are those of the cut and the catalogue, not of the steps between."""
    tracks = make_tracks(2_400)
    factors = read_factors(FactorModel({track.track: track for track in tracks}).snapshot())
    served = ServedFactors(factors, label="1:a")
    first = served.table(Catalogue(tracks))
    more = [track._replace(track=2_400 + track.track) for track in tracks[:80]]
    served.table(Catalogue([*tracks, *more[:40]]))
    last = Catalogue([*tracks[1:], *more])
    grown = served.table(last)
    assert served.made_of == {"clusters": f"1:a@{first.catalogue.label}"}
    direct = ServedFactors(factors)
    direct.table(first.catalogue)
    assert direct.table(last).clusters.cluster_of.tolist() == grown.clusters.cluster_of.tolist()
    now, then = grown.clusters.cluster_of[:2_399].tolist(), first.clusters.cluster_of[1:].tolist()
    was = dict(zip(now, then, strict=True))
    assert [was[cluster] for cluster in now] == then
    served.table(Catalogue([*tracks, *(track._replace(track=3_000 + track.track) for track in tracks[:400])]))
    assert served.made_of == {"clusters": "1:a"}, "all were cut again"
