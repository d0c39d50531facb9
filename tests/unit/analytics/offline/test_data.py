from __future__ import annotations

import numpy as np
import pytest

from botify.analytics.data import listens_frame
from botify.analytics.offline.off_policy import logged_decisions, mean_over_list, padded, probability
from botify.analytics.offline.ranking import NO_TRACK
from tests.unit.analytics.listens import drawn, listen


def test_decisions_are_what_followed_on_something_heard() -> None:
    listens = [
        e._replace(track=n, propensity=0.1 if e.position else None)
        for n, e in enumerate(drawn(9, np.random.default_rng(1)))
    ]
    decisions = logged_decisions(listens_frame(reversed(listens)))
    recommended = [e for e in listens if e.position]
    assert sorted(decisions["track"]) == [e.track for e in recommended]
    assert (decisions["track"] - decisions["previous"] == 1).all()
    assert decisions["reward"].sum() == pytest.approx(sum(e.fraction for e in recommended))


def test_what_followed_on_a_listen_that_is_missing_says_nothing() -> None:
    listens = [listen("r-1-0"), listen("r-1-0", 2), listen("r-2-0", 1), listen("r-3-0", 1, propensity=None)]
    assert logged_decisions(listens_frame(listens)).empty


def test_probabilities_over_the_catalogue_add_up_to_one() -> None:
    rng = np.random.default_rng(2)
    lists = padded([rng.permutation(30)[:size] for size in (0, 1, 5, 30)])
    every = np.array([probability(lists, np.full(4, track), otherwise=1 / 30) for track in range(30)])
    assert every.sum(axis=0) == pytest.approx(np.ones(4))
    worth = rng.random(30)
    means = mean_over_list(lists, np.where(lists == NO_TRACK, 0.0, worth[lists]), worth.mean())
    assert means == pytest.approx(every.T @ worth)
