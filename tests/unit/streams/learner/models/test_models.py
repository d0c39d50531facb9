"""The mathematics of the factors: the gradient against differences of the loss, and what is learned."""

import numpy as np
import pytest
from scipy.special import expit

from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS
from botify.streams.learner.models import scoring_kernels
from botify.streams.learner.models.factors import BIAS, CHUNK, FIRST_MATCH, FORGET_SESSIONS, FactorModel, read_factors
from botify.streams.learner.models.scoring import TrackScorer
from botify.streams.learner.models.tables import unpack
from tests.learning import FinishedSession, learn_sessions
from tests.unit.streams.learner.models import scoring_reference

RNG = np.random.default_rng


def sessions_of(n: int, seed: int, tracks: int = 40) -> list[FinishedSession]:
    rng = RNG(seed)
    return [
        FinishedSession(rng.integers(0, tracks, size=size), rng.random(size, dtype=np.float32))
        for size in rng.integers(1, 12, size=n)
    ]


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
def test_factors_learn_what_hearing_an_artist_again_leaves(share: float) -> None:
    """Every second track of a session is by one artist, the others by artists of their own; all are liked alike."""
    catalogue = {id_: Track(id_, "one" if id_ < 50 else f"a{id_}", None, None, "x") for id_ in range(100)}
    model, rng = FactorModel(catalogue), RNG(3)
    fractions = np.full(10, 0.8, dtype=np.float32)
    fractions[1::2] *= share ** np.arange(5)
    for _ in range(60):
        tracks = np.empty((32, 10), dtype=np.int64)
        tracks[:, ::2], tracks[:, 1::2] = rng.integers(50, 100, (32, 5)), rng.integers(0, 50, (32, 5))
        learn_sessions(model, [FinishedSession(row, fractions) for row in tracks])
    assert read_factors(model.snapshot()).kept[:4] == pytest.approx(share ** np.arange(4), abs=0.13)


def test_factors_learn_which_tracks_go_together() -> None:
    """Sessions like tracks of the parity they began with: nothing in the catalogue says so."""
    catalogue = {id_: Track(id_, f"a{id_}", None, None, "x") for id_ in range(20)}
    model, rng = FactorModel(catalogue), RNG(2)
    for _ in range(150):
        batch = []
        for _ in range(32):
            tracks = rng.permutation(20)[:6]
            fractions = np.where(tracks % 2 == tracks[0] % 2, 0.9, 0.1).astype(np.float32)
            fractions[0] = 1.0
            batch.append(FinishedSession(tracks, fractions))
        learn_sessions(model, batch)
    ids = np.arange(20)
    artists = [f"a{id_}" for id_ in range(20)]
    vectors = read_factors(model.snapshot()).of(ids, artists, ids, [None], np.zeros(20, dtype=np.int64))
    affinities = expit(vectors[:, :BIAS] @ vectors[:, :BIAS].T + vectors[:, BIAS])
    alike = (ids[:, None] - ids) % 2 == 0
    np.fill_diagonal(alike, False)
    assert affinities[alike].mean() > 0.6
    assert affinities[(ids[:, None] - ids) % 2 == 1].mean() < 0.4


def test_a_bad_track_is_forgotten_and_a_good_one_is_not() -> None:
    """Another genre's sessions say nothing of either; only that time has passed."""
    genre_of = {1: "here", 2: "here", 3: "here", 8: "there", 9: "there"}
    model = FactorModel({track: Track(track, genre, None, genre, "") for track, genre in genre_of.items()})
    heard = FinishedSession(np.array([3, 1, 2]), np.array([1.0, 1.0, 0.0], dtype=np.float32))
    elsewhere = FinishedSession(np.array([8, 9]), np.array([1.0, 0.5], dtype=np.float32))

    def own_bias(track: int) -> float:
        _, arrays = unpack(model.to_bytes())
        return float(arrays["tracks"][arrays["ids"].tolist().index(track), BIAS])

    learn_sessions(model, [heard] * CHUNK)
    good, bad = own_bias(1), own_bias(2)
    assert good > 0 > bad
    sessions = 10 * CHUNK
    learn_sessions(model, [elsewhere] * sessions)
    assert own_bias(1) == good
    assert own_bias(2) == pytest.approx(bad * 0.5 ** (sessions / FORGET_SESSIONS), rel=1e-3)


def test_a_track_never_heard_is_what_its_artist_and_genre_are() -> None:
    catalogue = {id_: Track(id_, "a", None, "jazz", "x") for id_ in range(40)}
    model = FactorModel(catalogue)
    learn_sessions(model, sessions_of(20, 1, tracks=30))
    factors = read_factors(model.snapshot())

    def of(ids: list[int], artist: str, genre: str) -> np.ndarray:
        nobody = np.zeros(len(ids), dtype=np.int64)
        return factors.of(np.array(ids), [artist], nobody, [genre], nobody)

    new = of([39, 38], "a", "jazz")
    assert (new[0] == new[1]).all()
    assert not (of([4], "a", "jazz") == new[:1]).all()
    assert np.isfinite(of([39], "nobody", "polka")).all()


def test_factors_forget_tracks_of_which_little_was_learned_and_artists_without_tracks() -> None:
    catalogue = {id_: Track(id_, f"исполнитель {id_ // 4}", None, f"g{id_ % 3}", "x") for id_ in range(400)}
    model = FactorModel(catalogue)
    learn_sessions(model, [FinishedSession(np.arange(400), np.ones(400, dtype=np.float32))])
    for track in range(40):  # ten artists whose tracks were liked again and again
        learn_sessions(
            model, [FinishedSession(np.array([track, (track + 1) % 40]), np.array([1, 1], dtype=np.float32))] * 30
        )
    before, most_bytes = read_factors(model.snapshot()), len(model.snapshot()) // 2
    assert model.make_room(most_bytes) > 150
    snapshot = model.snapshot()
    assert len(snapshot) <= most_bytes
    after, (names, arrays) = read_factors(snapshot), unpack(snapshot)
    assert set(range(40)) <= set(arrays["ids"].tolist())
    liked, artists = np.arange(40), [f"исполнитель {number}" for number in range(10)]
    arguments = (liked, artists, liked // 4, ["g0", "g1", "g2"], liked % 3)
    assert (after.of(*arguments) == before.of(*arguments)).all()
    assert set(names["artists"]) == {f"исполнитель {id_ // 4}" for id_ in arrays["ids"].tolist()}
    assert FactorModel.from_bytes(model.to_bytes(), catalogue).make_room(len(snapshot) - 1) > 0


def test_a_label_that_tells_gains_and_one_that_does_not_loses() -> None:
    rng = np.random.default_rng(4)
    catalogue = {
        id_: Track(id_, f"a{id_}", None, f"g{rng.integers(5)}", "x", mood=f"m{rng.integers(5)}") for id_ in range(400)
    }
    model = FactorModel(catalogue)
    for _ in range(40):
        sessions = []
        for _ in range(32):
            tracks = rng.choice(400, size=8, replace=False)
            liked = [catalogue[track].mood == catalogue[tracks[0]].mood for track in tracks.tolist()]
            sessions.append(FinishedSession(tracks, np.where(liked, 0.95, 0.05).astype(np.float32)))
        learn_sessions(model, sessions)
    matches = dict(zip(LABELS, read_factors(model.snapshot()).matches.tolist(), strict=True))
    assert matches["genre"] < FIRST_MATCH < matches["mood"]
    assert matches["country"] == matches["period"] == FIRST_MATCH


TRACKS, NUMBERS, VALUES, SESSIONS, HEARD = 500, 3, 40, 7, 9


@pytest.mark.parametrize("labels", [0, NUMBERS])
def test_compiled_loops_score_as_numpy_does(labels: int) -> None:
    rng = np.random.default_rng(labels)
    vectors = rng.normal(size=(TRACKS, BIAS + 1)).astype(np.float32)
    numbers = rng.integers(0, VALUES, (labels, TRACKS))
    compiled, plain = (TrackScorer(vectors, numbers, run) for run in (scoring_kernels, scoring_reference))
    lengths = rng.integers(1, HEARD + 1, SESSIONS)
    heard = rng.integers(0, TRACKS, (SESSIONS, HEARD)), rng.normal(size=(SESSIONS, HEARD)).astype(np.float32), lengths
    tastes = plain.tastes(*heard)
    assert compiled.tastes(*heard) == pytest.approx(tastes, abs=1e-5)
    by_value = rng.normal(size=(SESSIONS, VALUES)).astype(np.float32)
    starts = rng.integers(0, TRACKS - 20, (SESSIONS, 4))
    stops = starts + rng.integers(1, 20, starts.shape)
    logits = plain.of_cells(tastes, by_value, starts, stops)
    assert compiled.of_cells(tastes, by_value, starts, stops) == pytest.approx(logits, abs=1e-5)
    sessions, places = rng.integers(0, SESSIONS, 100), rng.integers(0, TRACKS, 100)
    wanted = plain.of_tracks(tastes, by_value, sessions, places)
    assert compiled.of_tracks(tastes, by_value, sessions, places) == pytest.approx(wanted, abs=1e-5)
    bounds = np.concatenate([[0], np.cumsum((stops - starts).sum(axis=1))])
    logits[rng.random(len(logits)) < 0.3] = -np.inf
    logits[bounds[2] : bounds[3]] = -np.inf
    assert [found.tolist() for found in compiled.best(logits, bounds)] == [
        found.tolist() for found in plain.best(logits, bounds)
    ]
