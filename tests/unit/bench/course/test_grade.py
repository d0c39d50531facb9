"""The command's checks before anything starts, and what it makes of a run."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

import botify.bench.course.cli
from botify.analytics.data import listens_frame
from botify.analytics.experiment import results_of
from botify.bench.course.cli import figures_of, table_of
from botify.bench.course.grade import (
    EDITIONS,
    CourseError,
    Graded,
    answered_by,
    lists_of,
    models_for,
    require_recommender,
)
from botify.bench.online import FreshStackError, require_disk
from botify.bench.studies import app as studies
from botify.schemas.events import Listen
from botify.services.recommender.lists import lists_of as decoded
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.loop import RunResult
from botify.sim.world import NAMED
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.unit.bench.course.test_result import users

CONFIG = WorldConfig(tracks=400, artists=80, genres=6, users=60, dimensions=12, clusters=4)
WORLD = World("small", *generate(CONFIG), {})


def test_editions_are_played_in_named_worlds_against_registered_recommenders() -> None:
    for edition in EDITIONS.values():
        assert edition.world in NAMED
        assert edition.control in RECOMMENDERS


def test_an_unknown_recommender_is_named_with_the_known_ones() -> None:
    with pytest.raises(CourseError, match=r"unknown recommender 'sasrec'; choose from random, toppop, (?!.* i2i,).*"):
        require_recommender("sasrec", "i2i")
    with pytest.raises(CourseError, match="i2i is the control of this edition; choose from random, "):
        require_recommender("i2i", "i2i")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recommender", "mine"], "unknown recommender 'mine'; choose from random"),
        (["--recommender", "mix", "--edition", "2023"], "edition 2023: choose 2022 or 2026"),
        (["--recommender", "mix", "--out", "file/results"], "cannot have the results"),
        (["--recommender", "mix", "--world", "moon"], "world 'moon': no world has such a name"),
    ],
)
def test_what_cannot_be_graded_is_refused_before_anything_starts(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path / "home"))
    (tmp_path / "file").touch()
    monkeypatch.setattr(botify.bench.course.cli, "grade_once", None)  # calling it would be another error
    done = CliRunner().invoke(studies, ["grade", *arguments])
    assert done.exception is not None
    assert message in str(done.exception)


def test_a_disk_without_room_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_200_000_000))
    require_disk(10_000, tmp_path)
    with pytest.raises(FreshStackError, match=r"30,000 sessions need 2\.0 GB in .*, which has 1\.2 GB; free some, set"):
        require_disk(30_000, tmp_path)


def test_lists_are_learned_where_control_or_recommender_serve_them() -> None:
    told: list[str] = []
    assert models_for(WORLD, EDITIONS[2022], "mix", told.append) == told == []
    models = {model.name: decoded(model) for model in lists_of(WORLD, log_sessions=20)}
    tracks, sizes = models["neighbours"].of(np.arange(len(WORLD.catalogue)))
    assert (sizes > 0).sum() > 100
    assert not (tracks == np.arange(len(tracks))[:, None]).any()  # none is its own neighbour
    assert (models["user-lists"].of(np.arange(len(WORLD.listeners)))[1] > 0).all()


def test_the_table_has_both_runs_with_regret_and_the_figures_those_of_the_first() -> None:
    graded = [
        Graded(RunResult(sessions=100, wall_s=5.0), results_of("HOMEWORK", users(uplift=uplift), 0), {"mix": 1.0})
        for uplift in (2.0, 2.5)
    ]
    yardsticks = {"oracle": 40.0, "scene": 12.0}
    about = {
        "recommender": "mix", "control": "i2i", "edition": 2026, "world": "small", "episodes": 100, "seed": 1,
        "yardsticks": yardsticks,
    }  # fmt: skip
    assert table_of(about, graded).row_count == 4
    figures = figures_of(graded, yardsticks, {"run2_effect": 50.0, "delta": 3.0})
    time = graded[0].results.effects[0]
    assert (figures["effect"], figures["time"], figures["second_effect"]) == (time.effect, time.treatment_mean, 50.0)
    assert figures["regret_percent"] == pytest.approx(100 * (1 - time.treatment_mean / 40.0))
    assert figures["seconds"] == 10.0


def test_listens_without_a_recommendation_are_nobodys_answers() -> None:
    def listen(position: int, recommender: str | None, treatment: str | None) -> Listen:
        treatments = {} if treatment is None else {"HOMEWORK": treatment}
        return Listen(
            f"r-1-0-{position}", 1, 5, 0.5, position, "r-1-0", position, False, recommender, treatments, None, None
        )

    rows = [(0, None, None), (1, "mix", "T1"), (2, "mix", "T1"), (3, "mix", "T1"), (4, "random", "T1")]
    listens = listens_frame([listen(*row) for row in rows] + [listen(5, "i2i", "C")])
    assert answered_by(listens) == {"mix": 0.75, "random": 0.25}
