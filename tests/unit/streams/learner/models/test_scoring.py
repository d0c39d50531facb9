"""Invariant: the compiled loops find what those of numpy find."""

from __future__ import annotations

import numpy as np
import pytest

from botify.streams.learner.models import scoring_kernels
from botify.streams.learner.models.factors import BIAS
from botify.streams.learner.models.scoring import TrackScorer
from tests.unit.streams.learner.models import scoring_reference

TRACKS, LABELS, VALUES, SESSIONS, WINDOW = 500, 3, 40, 7, 9


@pytest.mark.parametrize("labels", [0, LABELS])
def test_compiled_loops_score_as_numpy_does(labels: int) -> None:
    rng = np.random.default_rng(labels)
    vectors = rng.normal(size=(TRACKS, BIAS + 1)).astype(np.float32)
    numbers = rng.integers(0, VALUES, (labels, TRACKS))
    compiled, plain = (TrackScorer(vectors, numbers, run) for run in (scoring_kernels, scoring_reference))
    lengths = rng.integers(1, WINDOW + 1, SESSIONS)
    heard = rng.integers(0, TRACKS, (SESSIONS, WINDOW)), rng.normal(size=(SESSIONS, WINDOW)).astype(np.float32), lengths
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


def test_a_session_is_scored_by_what_it_heard_so_far_alone() -> None:
    tracks = TrackScorer(np.eye(3, BIAS + 1, dtype=np.float32), np.zeros((0, 3), dtype=np.int64))
    tastes = tracks.tastes(np.array([[0, 1, 2]]), np.array([[1.0, 2.0, 9.0]]), np.array([2]))
    assert tastes[0, :3] == pytest.approx(np.array([1, 2, 0]) / np.sqrt(2))
    assert tastes[0, -1] == 1
