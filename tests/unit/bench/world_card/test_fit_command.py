"""`botify world fit` and the card of a fitted world, on a small log."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

import botify.bench.world_card.cli
from botify.bench.world_card.fit import fit, fit_dataset
from botify.core.errors import BotifyError
from botify.ingest.dataset import open_dataset
from botify.ingest.importing import Request, import_dataset
from botify.sim.world import find_world
from botify.sim.world.fitting import FitSettings

Recorded = dict[str, Mapping[str, Any]]
SMALL = ("--users", "150", "--dimensions", "4")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    write_log(tmp_path, last_track=0)
    return tmp_path


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    found: Recorded = {}
    monkeypatch.setattr(botify.bench.world_card.cli, "record_command", found.update)
    return found


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


def run(command: Any, *arguments: str) -> str:
    app = typer.Typer()
    app.command()(command)
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None:
        raise done.exception
    return done.output


def test_a_log_becomes_a_world_with_a_card(home: Path, recorded: Recorded) -> None:
    output = run(fit, "plays", *SMALL)
    (name,) = re.findall(r"--world (\w{12})`", output)
    world = find_world(home, name)
    assert len(world.listeners) == 150
    assert len(world.catalogue) == len(open_dataset(home, "plays").external_items)
    assert f"World {name}, fitted to plays" in output
    picture = home / "fitted.png"
    card = run(
        botify.bench.world_card.cli.card, "--world", name, "--seed", "1", "--seed", "2", "--picture", str(picture),
        "--record", "trial",
    )  # fmt: skip
    assert "of 9 within tolerance" in card
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(recorded["trial"]) == 9
    assert not {":", "."} & set("".join(recorded["trial"]))  # a page could not quote them
    for row in recorded["trial"].values():
        assert row["within"] == ("yes" if abs(row["difference"]) <= row["tolerance"] else "no")


def test_a_card_wants_the_log_that_the_world_was_fitted_to(home: Path) -> None:
    world = fit_dataset(open_dataset(home, "plays"), FitSettings(users=150, dimensions=4))
    run(fit, "plays", *SMALL)
    (home / "datasets" / "plays").rename(home / "gone")
    with pytest.raises(BotifyError, match="dataset 'plays' is not in"):
        run(botify.bench.world_card.cli.card, "--world", world.name)
    write_log(home, last_track=1)
    with pytest.raises(BotifyError, match="has other events than when world"):
        run(botify.bench.world_card.cli.card, "--world", world.name)
