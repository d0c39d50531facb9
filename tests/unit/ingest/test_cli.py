"""The commands, from a file to what is shown of it."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from botify.ingest.model import DatasetError
from botify.services.cli.main import build_cli


@pytest.fixture
def run(tmp_path: Path):
    def invoke(*arguments: str) -> str:
        env = {"BOTIFY_HOME": str(tmp_path / "home"), "COLUMNS": "200"}
        return CliRunner(env=env).invoke(build_cli("data"), ["data", *arguments], catch_exceptions=False).stdout

    return invoke


def test_a_log_is_imported_listed_and_shown(run, tmp_path: Path) -> None:
    assert "no dataset in" in run("list")
    (tmp_path / "log.csv").write_text("who,what,stars\nada,x[1],4\nada,y,6\n,y,1\n,z,1\n")
    said = run("import", "csv", str(tmp_path / "log.csv"), "--to", "mine", "--map", "user=who,item=what,rating=stars")
    assert "mine: 1 events of 1 users and 1 items, 3 rows rejected" in said
    assert run("list").splitlines()[1].split() == ["mine", "csv", "1", "1", "1", "3"]
    shown = run("list", "mine")
    assert "x[1]" in shown
    assert [line.split()[:4] for line in shown.splitlines()[-2:]] == [
        ["2", "user", "is", "empty"],
        ["1", "rating", "is", "not"],
    ]
    card = json.loads(run("list", "mine", "--json"))
    assert (card["events"], card["kinds"], card["has_time"]) == (1, {"rating": 1}, False)


def test_ratings_of_another_scale_are_read(run, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("who,what,stars\nada,x,10\n")
    arguments = ["import", "csv", str(tmp_path / "log.csv"), "--to", "ten", "--map", "user=who,item=what,rating=stars"]
    run(*arguments, "--rating-scale", "0-10")
    assert json.loads(run("list", "ten", "--json"))["rejected"] == 0
    with pytest.raises(DatasetError, match="--rating-scale 'ten' is not LOWEST-HIGHEST, such as 1-5"):
        run(*arguments, "--rating-scale", "ten", "--force")


def test_a_sample_is_made_up_and_imported_as_it_says(run, tmp_path: Path) -> None:
    path = tmp_path / "plays.csv"
    said = " ".join(run("sample", str(path)).split())
    command = shlex.split(re.search("`botify data (.*?)`", said)[1])
    assert re.fullmatch(r"mine: \d,\d{3} events of 300 users and \d{3} items", run(*command).splitlines()[0])
    with pytest.raises(DatasetError, match=r"plays.csv exists"):
        run("sample", str(path))
