"""Invariant: labels match as a plain loop over the session says, and what a match is worth is learned from listens."""

from __future__ import annotations

import numpy as np
import pytest

from botify.schemas.events import Track
from botify.schemas.track_columns import LABELS, UNKNOWN, labels_of
from botify.streams.learner.models.factors import FIRST_MATCH, FactorModel, read_factors
from botify.streams.learner.models.taste import matches_before
from botify.streams.learner.sessions import FinishedSession


def test_matches_are_those_of_a_loop_over_the_listens_before() -> None:
    rng = np.random.default_rng(3)
    labels = rng.integers(UNKNOWN, 3, size=(5, 9, len(LABELS)))
    weight = rng.normal(size=(5, 9)).astype(np.float32)
    found = matches_before(labels, weight)
    for session, at, label in np.ndindex(labels.shape):
        value = labels[session, at, label]
        same = [
            weight[session, before]
            for before in range(at)
            if labels[session, before, label] == value and value != UNKNOWN
        ]
        assert found[session, at, label] == pytest.approx(sum(same) / max(at, 1) ** 0.5, abs=1e-5)


def test_a_track_without_details_has_no_labels_but_its_artist() -> None:
    (labels,) = labels_of([Track(7, "a", None, None, "x")]).tolist()
    assert labels[0] != UNKNOWN
    assert labels[1:] == [UNKNOWN] * (len(LABELS) - 1)


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
        model.learn(sessions)
    matches = dict(zip(LABELS, read_factors(model.snapshot()).matches.tolist(), strict=True))
    assert matches["genre"] < FIRST_MATCH < matches["mood"]
    assert matches["country"] == matches["period"] == FIRST_MATCH
