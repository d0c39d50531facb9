"""The command's checks before anything starts, and what it makes of a run."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from botify.analytics.data import listens_frame
from botify.analytics.experiment import ExperimentResults, results_of
from botify.bench import studies
from botify.bench.homework import (
    EDITIONS,
    METRICS,
    PRIMARY,
    CourseError,
    Graded,
    ab_result,
    answered_by,
    models_for,
    prepare,
    reproducibility,
    write,
)
from botify.bench.online import FreshStackError, require_disk
from botify.bench.studies import app, figures_of, table_of
from botify.schemas.events import Listen
from botify.services.recommender.lists import lists_of
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.loop import RunResult
from botify.sim.world import NAMED
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.unit.sim.conftest import SMALL

WORLD = World("small", *generate(SMALL), {})


def test_editions_are_played_in_named_worlds_against_registered_recommenders() -> None:
    for edition in EDITIONS.values():
        assert edition.world in NAMED
        assert edition.control in RECOMMENDERS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recommender", "sasrec"], "unknown recommender 'sasrec'; choose from random, toppop, (?!.* i2i,)"),
        (["--recommender", "i2i"], "i2i is the control of this edition; choose from random, "),
        (["--recommender", "rerank", "--edition", "2023"], "edition 2023: choose 2022 or 2026"),
        (["--recommender", "rerank", "--out", "file/results"], "file/results cannot have the results .*--out"),
        (["--recommender", "rerank", "--world", "moon"], "world 'moon': no world has such a name"),
    ],
)
def test_what_cannot_be_graded_is_refused_before_anything_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path / "home"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(studies, "grade_once", None)  # calling it would be another error
    assert re.search(message, str(CliRunner().invoke(app, ["grade", *arguments]).exception))


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_200_000_000))
    require_disk(10_000, tmp_path)
    with pytest.raises(FreshStackError, match=r"30,000 sessions need 2\.0 GB in .*, which has 1\.2 GB; free some, set"):
        require_disk(30_000, tmp_path)


def test_lists_are_learned_where_control_or_recommender_serve_them() -> None:
    told: list[str] = []
    assert models_for(WORLD, EDITIONS[2022], "rerank", told.append) == told == []
    edition = EDITIONS[2026]._replace(log_sessions=20)
    models = {model.name: lists_of(model) for model in models_for(WORLD, edition, "rerank", told.append)}
    tracks, sizes = models["neighbours"].of(np.arange(len(WORLD.catalogue)))
    assert (sizes > 0).sum() > 100
    assert not (tracks == np.arange(len(tracks))[:, None]).any()  # none is its own neighbour
    assert (models["user-lists"].of(np.arange(len(WORLD.listeners)))[1] > 0).all()


def test_the_table_has_both_runs_with_regret_and_the_figures_those_of_the_first() -> None:
    ran = RunResult(sessions=100, wall_s=5.0)
    runs = [Graded(ran, graded(users(uplift=uplift)), {"rerank": 1.0}) for uplift in (2.0, 2.5)]
    yardsticks = {"oracle": 40.0, "scene": 12.0}
    about = {"recommender": "rerank", "control": "i2i", "edition": 2026, "world": "small", "episodes": 100, "seed": 1}
    assert table_of({**about, "yardsticks": yardsticks}, runs).row_count == 4
    figures = figures_of(runs, yardsticks, {"run2_effect": 50.0, "delta": 3.0})
    time = runs[0].results.effects[0]
    assert (figures["effect"], figures["time"], figures["second_effect"]) == (time.effect, time.treatment_mean, 50.0)
    assert figures["regret_percent"] == pytest.approx(100 * (1 - time.treatment_mean / 40.0))
    assert figures["seconds"] == 10.0


def test_listens_without_a_recommendation_are_nobodys_answers() -> None:
    rows = [
        (None, {}),
        *[("rerank", {"HOMEWORK": "T1"})] * 3,
        ("random", {"HOMEWORK": "T1"}),
        ("i2i", {"HOMEWORK": "C"}),
    ]
    listens = [
        Listen(f"r-1-0-{at}", 1, 5, 0.5, at, "r-1-0", at, False, recommender, treatments, None, None)
        for at, (recommender, treatments) in enumerate(rows)
    ]
    assert answered_by(listens_frame(listens)) == {"rerank": 0.75, "random": 0.25}


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
def test_effects_and_intervals_are_those_of_the_analysis_rounded(uplift: float) -> None:
    results = graded(users(uplift=uplift))
    content, effects = ab_result(results), {effect.metric: effect for effect in results.effects}
    for row in content["all_effects"]:
        effect = effects[row["metric"]]
        means = [round(mean, 4) for mean in (effect.control_mean, effect.treatment_mean)]
        percents = [round(percent, 2) for percent in (effect.effect, effect.lower, effect.upper)]
        assert list(row.values()) == ["T1", effect.metric, *means, *percents, effect.significant]
    primary = content["all_effects"][-1]
    assert (content["lift_pct"], content["significant"]) == (primary["effect_pct"], primary["significant"])
    assert content["beat_control"] == (primary["effect_pct"] > 0)


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
    assert agreement["delta"] == pytest.approx(abs(one - other), abs=0.006)


def test_the_files_are_where_the_course_puts_them(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    prepare(folder, 2)
    runs = [ab_result(graded(users(uplift=uplift))) for uplift in (1.0, 1.1)]
    agreement = reproducibility(*runs)
    paths = write(folder, runs, agreement)
    files = "run1/ab_result.json", "run2/ab_result.json", "repro_result.json"
    assert paths == [folder / file for file in files]
    assert [json.loads(path.read_text(encoding="utf-8")) for path in paths] == [*runs, agreement]
    prepare(folder, 2)  # results of an earlier grade must not pass for those of a new one
    assert [path for path in folder.rglob("*") if path.is_file()] == []
