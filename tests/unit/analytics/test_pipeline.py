"""Requests find their answers, whatever came twice or not at all."""

import pandas as pd

from botify.analytics.pipeline import answered_per_s, health_summary, latency_over_time, match_answers

REQUESTS = pd.DataFrame(
    {
        "request_id": ["a-0", "a-1", "b-0", "a-1"],  # a-1 was asked again
        "position": [0, 1, 0, 1],
        "asked_ms": [1_000, 1_500, 2_000, 6_500],
    }
)
ANSWERS = pd.DataFrame(
    {
        "request_id": ["a-1", "a-0", "a-0", "of-another-run"],  # a-0 was answered twice
        "answered_ms": [6_600, 1_004, 1_900, 1_000],
        "recommender": ["toppop", "random", "toppop", "random"],
        "seen": [0, 1, 1, 0],
    }
)


def test_the_first_answer_to_the_first_request_counts() -> None:
    matched = match_answers(REQUESTS, ANSWERS)
    assert matched["latency_ms"].fillna(-1).to_dict() == {"a-0": 4.0, "a-1": 5_100.0, "b-0": -1.0}
    assert matched["recommender"].astype(object).fillna("nobody").tolist() == ["random", "toppop", "nobody"]


def test_what_the_request_carries_itself_is_known() -> None:
    behind = match_answers(REQUESTS, ANSWERS)["behind"]
    assert behind["a-0"] == 0.0  # the state had even seen the request's own listen
    assert behind["a-1"] == 1.0  # of two listens the request carries one, the state had none
    assert pd.isna(behind["b-0"])


def test_who_was_not_answered_has_no_part_in_the_percentiles() -> None:
    answers = match_answers(REQUESTS, ANSWERS)
    summary = health_summary(answers)
    assert summary["answered"].to_dict() == {"random": 1.0, "toppop": 1.0, "all": 2.0}
    assert summary.loc["all", "p50"] == 2_552.0
    assert summary["fresh"].to_dict() == {"random": 1.0, "toppop": 0.0, "all": 0.5}


def test_time_without_a_request_is_a_gap_and_not_a_zero() -> None:
    answers = match_answers(REQUESTS, ANSWERS)
    assert latency_over_time(answers)["p99"].notna().tolist() == [True, False]
    assert answered_per_s(answers).tolist() == [1.0, 0.0, 0.0, 0.0, 0.0, 1.0]
