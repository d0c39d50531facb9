"""`python -m botify.bench.studies card` and `botify world fit` on a small world and log: tables, figures, pictures."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import botify.bench.world_card.course
from botify.bench import studies
from botify.bench.world_card.course import EDITION_2022, Measured, measure_basics
from botify.bench.world_card.fit import fit, fit_dataset
from botify.bench.world_card.streaming import measure_skips, points_of
from botify.core.errors import BotifyError
from botify.ingest.dataset import open_dataset
from botify.ingest.importing import Request, import_dataset
from botify.sim.world import World, find_world
from botify.sim.world.config import COURSE, COURSE_2026, EASY
from botify.sim.world.fitting import FitSettings
from botify.sim.world.generate import generate
from botify.sim.world.store import save_world

SMALL = replace(COURSE_2026, tracks=1_500, artists=300, genres=6, scenes=18, users=200, dimensions=16, clusters=4)
Recorded = dict[str, Mapping[str, Any]]


@pytest.fixture
def recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """What commands record, instead of docs/figures.json; their worlds and datasets are in `tmp_path`."""
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    found: Recorded = {}
    monkeypatch.setattr(studies, "record_command", found.update)
    return found


def run(command: Any, *arguments: object) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, [*map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


def card(*arguments: object) -> str:
    return run(studies.card, *arguments, "--record", "trial")


@pytest.fixture
def small(tmp_path: Path, recorded: Recorded, monkeypatch: pytest.MonkeyPatch) -> Recorded:
    save_world(tmp_path, World("small", *generate(SMALL), {}))
    for name in ("SESSIONS", "COURSE_LOG", "HOMEWORK_LOG", "LOG_2026"):
        monkeypatch.setattr(botify.bench.world_card.course, name, 1_000)
    return recorded


@pytest.mark.parametrize(("edition", "rows"), [(2022, 11), (2026, 3)])
def test_an_edition_is_a_table_of_its_rows(small: Recorded, edition: int, rows: int) -> None:
    output = card("--world", "small", "--edition", edition, "--seed", 1, "--seed", 2)
    assert f"of {rows} within tolerance" in output
    assert len(small["trial"]) == rows
    for row in small["trial"].values():
        assert row.keys() == {"source", "target", "measured", "mean", "within"}
        assert row["within"] in ("yes", "no")
    assert not {":", "."} & set("".join(small["trial"]))  # a page could not quote them


def test_streaming_has_fifty_points_and_a_picture(small: Recorded, tmp_path: Path) -> None:
    output = card("--world", "small", "--model", "streaming", "--picture", tmp_path / "skips.png")
    assert "of 50 within tolerance" in output
    points = {group: row["points"] for group, row in small["trial"].items()}
    assert points == {"position": 20, "hour": 24, "context": 6}
    assert (tmp_path / "skips.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("--edition", 2023), ("--model", "drifting")])
def test_there_is_no_card_of_others(recorded: Recorded, arguments: tuple[object, ...]) -> None:
    with pytest.raises(BotifyError, match="2022 or 2026, and botify or streaming"):
        card(*arguments)
    assert recorded == {}


def test_skips_come_out_as_published(course: World) -> None:
    points = points_of(measure_skips(course, seed=5, days=5.0))
    assert len(points) == 50
    assert sum(not point.is_fitted for point in points) >= 50 / 3
    assert [point for point in points if not point.holds] == []


@pytest.fixture(scope="module")
def course() -> World:
    return World("course", *generate(COURSE), {})


def missed_by(world: World) -> dict[str, float]:
    """Return the means of the rows that need no lists and do not come out as published."""
    measured = measure_basics(world, seed=1)
    rows = [Measured(row, (measured[row.name],)) for row in EDITION_2022 if row.name in measured]
    assert len(rows) == 7
    return {row.row.name: row.mean for row in rows if not row.holds}


def test_a_world_whose_genres_are_all_there_is_to_know_is_not_the_courses(course: World) -> None:
    assert missed_by(course) == {}
    assert missed_by(World("easy", *generate(EASY), {})).keys() == {"genre", "genre_sticky"}


def write_log(home: Path, last_track: int) -> None:
    """Import 200 users of two groups of tracks; every fifth play is skipped."""
    rng = np.random.default_rng(1)
    lines = ["user,track,time,played,artist"]
    for user in range(200):
        for place in range(int(rng.integers(4, 15))):
            track = int(rng.integers(30) * rng.random()) * 2 + user % 2
            lines.append(f"u{user},t{track},{user * 100_000 + place},{0.1 if place % 5 == 4 else 1.0},a{track // 4}")
    lines.append(f"u0,t{last_track},999999999,1.0,a0")
    path = home / "log.csv"
    path.write_text("\n".join(lines) + "\n")
    columns = {"user": "user", "item": "track", "time": "time", "played": "played", "artist": "artist"}
    import_dataset(home, "plays", Request("csv", str(path), columns))


def test_a_log_becomes_a_world_with_a_card(tmp_path: Path, recorded: Recorded) -> None:
    write_log(tmp_path, last_track=0)
    output = run(fit, "plays", "--users", 150, "--dimensions", 4)
    (name,) = re.findall(r"--world (\w{12})`", output)
    world = find_world(tmp_path, name)
    assert len(world.listeners) == 150
    assert len(world.catalogue) == len(open_dataset(tmp_path, "plays").external_items)
    assert f"World {name}, fitted to plays" in output
    assert "of 9 within tolerance" in card("--world", name, "--seed", 1, "--seed", 2)
    assert len(recorded["trial"]) == 9
    assert not {":", "."} & set("".join(recorded["trial"]))  # a page could not quote them
    for row in recorded["trial"].values():
        assert row["within"] == ("yes" if abs(row["difference"]) <= row["tolerance"] else "no")


def test_a_card_wants_the_log_that_the_world_was_fitted_to(tmp_path: Path, recorded: Recorded) -> None:
    write_log(tmp_path, last_track=0)
    world = fit_dataset(open_dataset(tmp_path, "plays"), FitSettings(users=150, dimensions=4))
    save_world(tmp_path, world)
    (tmp_path / "datasets" / "plays").rename(tmp_path / "gone")
    with pytest.raises(BotifyError, match="dataset 'plays' is not in"):
        card("--world", world.name)
    write_log(tmp_path, last_track=1)
    with pytest.raises(BotifyError, match="has other events than when world"):
        card("--world", world.name)
