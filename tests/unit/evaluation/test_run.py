"""Lists are looked up once, and none that breaks the rules is."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from botify.evaluation import EvaluationError
from botify.evaluation.evaluate import Job, evaluate_all, replays
from botify.evaluation.figures import Clustered, Difference, Row, UserSums, new_rows, paired_bootstrap, rows_of
from botify.evaluation.protocols import Terms
from botify.evaluation.rankers.peers import MOST_ITEMS
from botify.evaluation.rankers.registry import trials_of
from botify.evaluation.run import METRICS, Outcome, run
from botify.evaluation.table import render
from tests.unit.evaluation.logs import Spy, companions, planned, random_log


def test_metrics_are_those_of_the_rank() -> None:
    plan = planned(random_log(), k=3, repeats=True)
    outcome = run(Spy([5, 7, 9]), plan, Terms(k=3, repeats=True))
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
        run(Spy(items), plan, Terms(k=3))


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


def test_the_settings_that_are_best_on_validation_are_tested() -> None:
    trials = [{"half_life": 1.0}, {"half_life": 30.0}, {"half_life": 0.0}]
    job, told = Job("personal", random_log(), Terms(repeats=True), range(2), trials=trials), list[float]()
    ((name, outcomes),) = evaluate_all([job], processes=1, tell=told.append)
    assert told == sorted(told)
    assert told[-1] == 1
    validated = replace(job, terms=replace(job.terms, validation=True), seeds=range(1), trials=())
    found = [replays(replace(validated, settings=one))[0] for one in trials]
    best = max(zip([one.metrics["NDCG"][one.reported].mean() for one in found], trials, strict=True))[1]
    tested = replays(replace(job, settings=best, trials=()))
    assert name == "personal"
    assert not isinstance(outcomes, str)
    assert [one.note for one in outcomes] == [f"best of 3 on validation (half_life={best['half_life']:g})"] * 2
    assert [one.metrics["NDCG"].tolist() for one in outcomes] == [one.metrics["NDCG"].tolist() for one in tested]


def test_of_a_large_grid_some_settings_are_tried_and_each_once() -> None:
    whole = trials_of("als", 1_000)
    assert len(whole) == 18
    some = trials_of("als", 5)
    assert len(some) == len({tuple(one.items()) for one in some}) == 5
    assert all(one in whole for one in some)
    assert trials_of("als", 0) == trials_of("rtrec_slim", 9) == trials_of("toppop", 9) == []


def test_new_items_are_judged_alone() -> None:
    plan = planned(random_log())
    outcome, events = run(companions(), plan, Terms()), plan.log.events
    for target, ask, plays in zip(plan.targets, plan.asks, outcome.plays, strict=True):
        assert plays == np.count_nonzero(events.items[: plan.learned[ask]] == target)
    most = int(np.median(outcome.plays[outcome.reported]))
    (row,) = new_rows({"companions": [outcome]}, "companions", 30, most)
    chosen = outcome.reported & (outcome.plays < most)
    assert 0 < row.by_history["count"].sum() == chosen.sum() < outcome.reported.sum()
    assert row.metrics["recall"].mean == pytest.approx(outcome.metrics["recall"][chosen].mean())
    assert new_rows({"companions": [outcome]}, "companions", 30, 0) == []


def outcome_of(users: np.ndarray, recall: np.ndarray) -> Outcome:
    n = len(users)
    metrics = {name: recall.astype(np.float32) for name in ("recall", "NDCG", "MRR")}
    columns = np.linspace(0, 0.99, n), np.arange(n), np.zeros(n, int), np.ones(n, bool)
    return Outcome(users, *columns, metrics, {"coverage": 0.5}, "")


def test_copies_of_a_users_events_do_not_make_the_error_smaller() -> None:
    generator = np.random.default_rng(0)
    users, recall = np.arange(200), generator.integers(0, 2, 200)
    once = UserSums.of([outcome_of(users, recall)], 200).clustered("recall")
    often = UserSums.of([outcome_of(np.repeat(users, 9), np.repeat(recall, 9))], 200).clustered("recall")
    assert often == pytest.approx(once)
    assert once.error == pytest.approx(recall.std(ddof=1) / np.sqrt(200))


def test_the_paired_interval_is_narrower_than_the_difference_of_two_errors() -> None:
    generator = np.random.default_rng(1)
    users, base = np.arange(500), generator.integers(0, 2, 500)
    better = np.where(generator.random(500) < 0.1, 1, base)
    one, other = (UserSums.of([outcome_of(users, values)], 500) for values in (better, base))
    value, lower, upper = paired_bootstrap(one, other, "recall")
    assert lower < value < upper
    assert lower > 0
    assert value == pytest.approx((better - base).mean())
    assert upper - lower < 2 * one.clustered("recall").error


def test_the_interval_covers_the_truth() -> None:
    generator, covered = np.random.default_rng(2), 0
    users = np.repeat(np.arange(80), 4)
    for _ in range(200):
        gains = np.repeat(generator.normal(0.1, 1, 80), 4) + generator.normal(0, 0.5, 320)
        one, other = (UserSums.of([outcome_of(users, values)], 80) for values in (gains, np.zeros(320)))
        _, lower, upper = paired_bootstrap(one, other, "recall", resamples=200)
        covered += lower <= 0.1 <= upper
    assert 0.88 <= covered / 200 <= 0.99


def test_a_row_has_its_curves_and_the_baseline_no_difference() -> None:
    plan = planned(random_log())
    spy, row = rows_of({"spy": [run(Spy(), plan, Terms())], "row": [run(companions(), plan, Terms())]}, "spy", 30)
    assert spy.differences == {}
    assert row.differences["recall"].value == pytest.approx(row.metrics["recall"].mean)
    assert row.by_position["count"].sum() == len(plan.targets)
    assert row.by_history["count"].sum() == plan.reported.sum()
    assert list(row.by_position.index) == sorted(row.by_position.index)


LONG = "a_recommender_of_your_own_with_a_long_name"


def row(name: str, difference: Difference | None) -> Row:
    figures = {
        "coverage": 1.0, "novelty_bits": 10.8, "popularity_percentile": 99.0,
        "learn_us": 12_345.0, "serve_us": 23_456.0, "memory_mb": 1_234.0,
    }  # fmt: skip
    metrics = {metric: Clustered(0.1234, 0.0123) for metric in METRICS}
    differences = dict.fromkeys(METRICS[:2], difference) if difference else {}
    return Row(name, "", metrics, {}, figures, differences, pd.DataFrame(), pd.DataFrame())


@pytest.mark.parametrize(("name", "baseline"), [(LONG, "toppop"), ("toppop", LONG), (LONG, LONG[2:])])
def test_eighty_columns_hold_names_of_any_length(name: str, baseline: str) -> None:
    rows = [row(baseline, None), row(name, Difference(-0.1234, -0.2345, -0.1111))]
    quality, rest = (lines_at_80(table) for table in render(rows, "title", baseline, [], 1000))
    for lines in (quality, rest):
        assert max(map(len, lines)) <= 80
        assert "-0.1234 [-0.2345, -0.1111]" in "\n".join(lines)
        folded = "".join(line.split(" ", 2)[1] for line in lines if line.startswith(" ") and line.strip())
        assert name in folded
        assert baseline in folded
    assert sum("0.1234 0.0123  0.1234 0.0123  0.1234" in line.replace("    ", "  ") for line in quality) == 2
    assert sum("100%  10.8    99  12,345  23,456  1,234" in line for line in rest) == 2


def lines_at_80(table: object) -> list[str]:
    console = Console(file=io.StringIO(), width=80, color_system=None)
    console.print(table)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "…" not in text
    return text.splitlines()
