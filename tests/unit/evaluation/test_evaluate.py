"""Recommenders run in processes of their own; what a peer cannot do, or not in time, stops no other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import Job, evaluate_all
from botify.evaluation.protocols import Terms
from botify.evaluation.rankers.peers import MOST_ITEMS
from tests.unit.evaluation.logs import random_log


def test_a_peer_that_cannot_be_trained_stops_no_other_and_progress_is_told() -> None:
    log = random_log()
    too_large = replace(log, tracks=(), items=MOST_ITEMS + 1)
    told: list[float] = []
    jobs = [Job("ease", too_large, Terms(), range(1)), Job("toppop", log, Terms(), range(2))]
    found = dict(evaluate_all(jobs, processes=1, tell=told.append))
    assert f"{MOST_ITEMS + 1:,} items are more than {MOST_ITEMS:,}" in found["ease"]
    assert [outcome.reported.any() for outcome in found["toppop"]] == [True, True]  # type: ignore[union-attr]
    assert told == sorted(told)
    assert told[-1] == len(jobs)


def test_a_peer_is_stopped_at_its_time_limit() -> None:
    jobs = [Job(name, random_log(), Terms(), range(1)) for name in ("ease", "toppop")]
    found = dict(evaluate_all(jobs, processes=2, limit_s=0.0))
    assert found["ease"] == "took more than 0 minutes"
    assert not isinstance(found["toppop"], str)  # only peers have a limit


def test_a_recommender_of_botify_that_cannot_be_evaluated_is_an_error() -> None:
    with pytest.raises(EvaluationError, match="recommender 'nobody' is not known"):
        list(evaluate_all([Job("nobody", random_log(), Terms(), range(1))], processes=1))
