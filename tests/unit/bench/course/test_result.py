"""Invariant: the files of a grade are those that the course's checker reads, with the figures that it would compute."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from botify.analytics.experiment import ExperimentResults, results_of
from botify.bench.course.grade import METRICS, PRIMARY, CourseError, ab_result, prepare, reproducibility, write

FIELDS = [
    "treatment", "metric", "control_mean", "treatment_mean", "effect_pct", "lower_pct", "upper_pct", "significant",
]  # fmt: skip
"""Of an effect, in the order of the course's file (recsys-course-spring-2026, commit 0cceba5)."""


def users(each: int = 40, uplift: float = 1.0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({metric: rng.gamma(2.0, 3.0, 2 * each) for metric in reversed(METRICS)})
    frame["treatment"] = ["C", "T1"] * each
    frame.loc[frame["treatment"] == "T1", PRIMARY] += uplift
    return frame


def graded(frame: pd.DataFrame) -> ExperimentResults:
    return results_of("HOMEWORK", frame, mixed=0)


def test_the_fields_are_those_of_the_course_in_its_order() -> None:
    content = ab_result(graded(users()))
    assert list(content) == [
        "experiment", "all_effects", "beat_control", "lift_pct", "significant", "primary_metric", "treatment",
    ]  # fmt: skip
    assert [list(effect) for effect in content["all_effects"]] == [FIELDS] * 5
    assert [effect["metric"] for effect in content["all_effects"]] == [
        "time", "sessions", "mean_request_latency", "mean_tracks_per_session", "mean_time_per_session",
    ]  # fmt: skip
    assert json.loads(json.dumps(content)) == content
    assert {type(effect["significant"]) for effect in content["all_effects"]} == {bool}


@pytest.mark.parametrize("uplift", [-2.0, 0.0, 3.0])
def test_effects_and_intervals_are_welchs_in_percent_of_the_control(uplift: float) -> None:
    frame = users(uplift=uplift)
    content = ab_result(graded(frame))
    for effect in content["all_effects"]:
        control, treated = (frame.loc[frame["treatment"] == arm, effect["metric"]] for arm in ("C", "T1"))
        interval = stats.ttest_ind(treated, control, equal_var=False).confidence_interval()
        percent = 100 / control.mean()
        assert effect["control_mean"] == round(control.mean(), 4)
        assert effect["treatment_mean"] == round(treated.mean(), 4)
        assert effect["effect_pct"] == pytest.approx((treated.mean() - control.mean()) * percent, abs=0.006)
        assert effect["lower_pct"] == pytest.approx(interval.low * percent, abs=0.006)
        assert effect["upper_pct"] == pytest.approx(interval.high * percent, abs=0.006)
        assert effect["significant"] == (interval.low * interval.high > 0)
    primary = content["all_effects"][-1]
    assert (content["lift_pct"], content["significant"]) == (primary["effect_pct"], primary["significant"])
    assert content["beat_control"] == (primary["effect_pct"] > 0)


def test_an_effect_on_nothing_is_zero() -> None:
    frame = users()
    frame["mean_request_latency"] = 0.0
    latency = ab_result(graded(frame))["all_effects"][2]
    assert (latency["effect_pct"], latency["lower_pct"], latency["upper_pct"]) == (0.0, 0.0, 0.0)
    assert not latency["significant"]


def test_too_few_listeners_are_no_result() -> None:
    with pytest.raises(CourseError, match="1 and 1 listeners are too few to compare; grade with more --episodes"):
        ab_result(graded(users(each=1)))


@pytest.mark.parametrize(
    ("one", "other", "ok", "verdict"),
    [
        (36.0, 46.0, True, "reproducible: equal signs, delta=10.00% ≤ 10.0%"),
        (36.0, 46.01, False, "too far apart: delta=10.01% > 10.0%"),
        (1.0, -1.0, False, "signs differ: run1=+1.00% run2=-1.00%"),
        (0.0, 1.0, False, "signs differ: run1=+0.00% run2=+1.00%"),
        (-20.0, -15.0, True, "reproducible: equal signs, delta=5.00% ≤ 10.0%"),
    ],
)
def test_two_runs_agree_as_in_the_course(one: float, other: float, ok: bool, verdict: str) -> None:
    agreement = reproducibility({"lift_pct": one}, {"lift_pct": other})
    assert list(agreement) == ["ok", "run1_effect", "run2_effect", "delta", "threshold", "verdict"]
    assert (agreement["ok"], agreement["verdict"], agreement["threshold"]) == (ok, verdict, 10.0)
    assert math.isclose(agreement["delta"], abs(one - other), abs_tol=0.006)


def test_the_files_are_where_the_course_puts_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    prepare(folder, 2)
    runs: list[dict[str, Any]] = [ab_result(graded(users(uplift=uplift))) for uplift in (1.0, 1.1)]
    agreement = reproducibility(*runs)
    paths = write(folder, runs, agreement)
    assert [path.relative_to(folder).as_posix() for path in paths] == [
        "run1/ab_result.json", "run2/ab_result.json", "repro_result.json",
    ]  # fmt: skip
    assert [json.loads(path.read_text(encoding="utf-8")) for path in paths] == [*runs, agreement]
    prepare(folder, 2)  # results of an earlier grade must not pass for those of a new one
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_written_is_said_before_the_runs(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CourseError, match=r"file/results cannot have the results .*--out"):
        prepare(tmp_path / "file" / "results", 2)
