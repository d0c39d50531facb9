"""The compiled loops: they score as numpy does, and give the bytes that Python gives, whoever compiled them."""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.streams.learner.models.factors import BIAS, FactorModel
from botify.streams.learner.models.scoring import TrackScorer
from tests.learning import learn_sessions, random_sessions

TRACKS, VALUES, SESSIONS, HEARD = 500, 40, 7, 9


@pytest.mark.parametrize("labels", [0, 3])
def test_compiled_loops_score_as_numpy_does(labels: int) -> None:
    rng = np.random.default_rng(labels)
    vectors = rng.normal(size=(TRACKS, BIAS + 1)).astype(np.float32)
    numbers = rng.integers(0, VALUES, (labels, TRACKS))
    scorer = TrackScorer(vectors, numbers)
    heard, weights = rng.integers(0, TRACKS, (SESSIONS, HEARD)), rng.normal(size=(SESSIONS, HEARD)).astype(np.float32)
    lengths = rng.integers(1, HEARD + 1, SESSIONS)
    read = np.where(np.arange(HEARD) < lengths[:, None], weights, 0)
    tastes = np.einsum("bn,bnd->bd", read, vectors[heard]) / np.sqrt(lengths)[:, None]
    tastes[:, BIAS] = 1
    assert scorer.tastes(heard, weights, lengths) == pytest.approx(tastes, abs=1e-5)
    by_value = rng.normal(size=(SESSIONS, VALUES)).astype(np.float32)

    def logits_of(sessions: np.ndarray, places: np.ndarray) -> np.ndarray:
        worth = sum(by_value[sessions, number[places]] for number in numbers)
        return np.asarray(np.vecdot(tastes[sessions], vectors[places]) + worth)

    sessions, places = rng.integers(0, SESSIONS, 100), rng.integers(0, TRACKS, 100)
    of_tracks = scorer.of_tracks(tastes, by_value, sessions, places)
    assert of_tracks == pytest.approx(logits_of(sessions, places), abs=1e-5)
    starts = rng.integers(0, TRACKS - 20, (SESSIONS, 4))
    stops = starts + rng.integers(1, 20, starts.shape)
    logits = scorer.of_cells(tastes, by_value, starts, stops)
    places = np.concatenate([np.arange(*cell) for cell in zip(starts.ravel(), stops.ravel(), strict=True)])
    offered = (stops - starts).sum(axis=1)
    assert logits == pytest.approx(logits_of(np.repeat(np.arange(SESSIONS), offered), places), abs=1e-5)
    bounds = np.concatenate([[0], np.cumsum(offered)])
    logits[rng.random(len(logits)) < 0.3] = -np.inf
    logits[bounds[2] : bounds[3]] = -np.inf
    best, free = scorer.best(logits, bounds)
    for session, of_session in enumerate(np.split(logits, bounds[1:-1])):
        assert best[session] == bounds[session] + of_session.argmax()
        assert free[session] == np.isfinite(of_session).sum()


def factors() -> bytes:
    model = FactorModel({id_: Track(id_, f"a{id_ % 7}", None, f"g{id_ % 3}", "x") for id_ in range(40)})
    learn_sessions(model, random_sessions(40, seed=1))
    return model.to_bytes()


def scores() -> bytes:
    rng = np.random.default_rng(5)
    scorer = TrackScorer(rng.normal(size=(50, BIAS + 1)).astype(np.float32), rng.integers(0, 9, (2, 50)))
    tastes = scorer.tastes(rng.integers(0, 50, (3, 6)), rng.normal(size=(3, 6)).astype(np.float32), np.array([6, 1, 4]))
    by_value = rng.normal(size=(3, 9)).astype(np.float32)
    of_cells = scorer.of_cells(tastes, by_value, np.array([[0], [7], [9]]), np.array([[5], [9], [20]]))
    of_tracks = scorer.of_tracks(tastes, by_value, np.repeat([0, 1, 2], 3), np.arange(9))
    return tastes.tobytes() + of_cells.tobytes() + of_tracks.tobytes()


def hashes() -> list[str]:
    return [hashlib.sha256(made()).hexdigest() for made in (factors, scores)]


def test_compiled_code_gives_the_bytes_that_python_gives() -> None:
    tell = f"import json; from {__name__} import hashes; print(json.dumps(hashes()))"
    told = subprocess.run(  # noqa: S603
        [sys.executable, "-c", tell], env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, check=True
    )
    assert json.loads(told.stdout) == hashes()
