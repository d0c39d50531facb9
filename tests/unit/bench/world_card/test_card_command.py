"""`python -m botify.bench.studies card` on a small world: tables, figures and the picture."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import botify.bench.world_card.cli
import botify.bench.world_card.course
from botify.bench.world_card.course import EDITION_2022, Measured, measure_basics
from botify.bench.world_card.streaming import measure_skips, points_of
from botify.core.errors import BotifyError
from botify.sim.world import World
from botify.sim.world.config import COURSE, COURSE_2026, EASY
from botify.sim.world.generate import generate
from botify.sim.world.store import save_world

SMALL = replace(COURSE_2026, tracks=1_500, artists=300, genres=6, scenes=18, users=200, dimensions=16, clusters=4)
Recorded = dict[str, Mapping[str, Any]]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    save_world(tmp_path, World("small", *generate(SMALL), {}))
    for name in ("SESSIONS", "COURSE_LOG", "HOMEWORK_LOG", "LOG_2026"):
        monkeypatch.setattr(botify.bench.world_card.course, name, 1_000)
    found: Recorded = {}
    monkeypatch.setattr(botify.bench.world_card.cli, "record_command", found.update)
    return found


def card(*arguments: object) -> str:
    app = typer.Typer()
    app.command()(botify.bench.world_card.cli.card)
    done = CliRunner().invoke(app, [*map(str, arguments), "--world", "small", "--record", "trial"])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.mark.parametrize(("edition", "rows"), [(2022, 11), (2026, 3)])
def test_an_edition_is_a_table_of_its_rows(recorded: Recorded, edition: int, rows: int) -> None:
    output = card("--edition", edition, "--seed", 1, "--seed", 2)
    assert f"of {rows} within tolerance" in output
    assert len(recorded["trial"]) == rows
    for row in recorded["trial"].values():
        assert row.keys() == {"source", "target", "measured", "mean", "within"}
        assert row["within"] in ("yes", "no")
    assert not {":", "."} & set("".join(recorded["trial"]))  # a page could not quote them


def test_streaming_has_fifty_points_and_a_picture(recorded: Recorded, tmp_path: Path) -> None:
    output = card("--model", "streaming", "--picture", tmp_path / "skips.png")
    assert "of 50 within tolerance" in output
    assert {group: row["points"] for group, row in recorded["trial"].items()} == {
        "position": 20, "hour": 24, "context": 6,
    }  # fmt: skip
    assert (tmp_path / "skips.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--edition", 2023), ("--model", "drifting")])
def test_there_is_no_card_of_others(recorded: Recorded, arguments: tuple[object, ...]) -> None:
    with pytest.raises(BotifyError, match="2022 or 2026, and botify or streaming"):
        card(*arguments)
    assert recorded == {}


DAYS = 5.0


def test_skips_come_out_as_published(course: World) -> None:
    points = points_of(measure_skips(course, seed=5, days=DAYS))
    assert len(points) == 50
    assert sum(not point.is_fitted for point in points) >= 50 / 3
    assert [point for point in points if not point.holds] == []


@pytest.fixture(scope="module")
def course() -> World:
    return World("course", *generate(COURSE), {})


def test_the_rows_that_need_no_lists_come_out_as_published(course: World) -> None:
    measured = measure_basics(course, seed=1)
    rows = [Measured(row, (measured[row.name],)) for row in EDITION_2022 if row.name in measured]
    assert len(rows) == 7
    assert [(row.row.title, row.mean) for row in rows if not row.holds] == []


def test_a_world_whose_genres_are_all_there_is_to_know_is_no_such_world() -> None:
    measured = measure_basics(World("easy", *generate(EASY), {}), seed=1)
    missed = {
        row.name for row in EDITION_2022 if row.name in measured and not Measured(row, (measured[row.name],)).holds
    }
    assert missed == {"genre", "genre_sticky"}
