"""Lists are looked up once, and none that breaks the rules is."""

from __future__ import annotations

import numpy as np
import pytest

from botify.evaluation import EvaluationError
from botify.evaluation.log import Events, Ints
from botify.evaluation.protocols import Terms
from botify.evaluation.run import run
from tests.unit.evaluation.logs import planned, random_log


class Fixed:
    """Answers everybody with the same list."""

    note = ""

    def __init__(self, items: list[int]) -> None:
        self._items = items

    def learn(self, events: Events) -> None:
        """Learn nothing."""

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        return np.tile(np.array(self._items), (len(users), 1))


def test_metrics_are_those_of_the_rank() -> None:
    plan = planned(random_log(), k=3, repeats=True)
    outcome = run(Fixed([5, 7, 9]), plan, Terms(k=3, repeats=True))
    ranks = np.select([plan.targets == 5, plan.targets == 7, plan.targets == 9], [1, 2, 3], 0)
    there = ranks > 0
    assert outcome.metrics["recall"].tolist() == there.astype(float).tolist()
    assert outcome.metrics["MRR"] == pytest.approx(np.where(there, 1 / np.maximum(ranks, 1), 0))
    assert outcome.metrics["NDCG"] == pytest.approx(np.where(there, 1 / np.log2(np.maximum(ranks, 1) + 1), 0))
    assert outcome.figures["coverage"] == 3 / 40
    assert outcome.figures["serve_us"] > 0


@pytest.mark.parametrize(
    ("items", "message"),
    [([1, 1, 2], "twice"), ([1, 40, 2], "not among the 40"), ([1, -2, 3], "not among"), ([0, 1, 2], "has heard")],
)
def test_lists_that_break_the_rules_are_refused(items: list[int], message: str) -> None:
    plan = planned(random_log(), k=3)
    with pytest.raises(EvaluationError, match=message):
        run(Fixed(items), plan, Terms(k=3))


def test_heard_items_may_be_recommended_where_repeats_count() -> None:
    run(Fixed([0, 1, 2]), planned(random_log(), k=3, repeats=True), Terms(k=3, repeats=True))


def test_a_ranker_without_answers_has_no_novelty_and_no_recall() -> None:
    outcome = run(Fixed([-1, -1]), planned(random_log(), k=2), Terms(k=2))
    assert outcome.metrics["recall"].sum() == 0
    assert np.isnan(outcome.figures["novelty_bits"])
