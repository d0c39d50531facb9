"""What pages quote can be recorded again by `make figures`, which knows what is old."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.main import get_command

from botify.bench import record as recording
from botify.bench.__main__ import MEASUREMENTS
from botify.bench.cli import measurable
from botify.bench.figures import ROOT, FigureError, pages, quotable, read_figures
from botify.bench.record import RECIPES, Recipe, main, outdated, values_of
from botify.bench.studies import app as studies
from botify.evaluation import MissingPeerError
from botify.evaluation.rankers import registry
from botify.services.cli import build_cli
from tests.support import git

GROUPS = {group for recipe in RECIPES for group in recipe.groups}


def test_rows_are_those_of_the_file() -> None:
    other = {"note": "", "figures": {"serve_us": 9.0}, "differences": {}}
    ease = {"name": "ease", "metrics": {"recall": {"mean": 0.2, "error": 0.005}}, **other}
    ours = {**ease, "name": "ours", "differences": {"recall": {"value": 0.02, "lower": -0.01, "upper": 0.03}}}
    values = values_of({"recommenders": [ours, ease, {**ease, "name": "als", "note": "untuned"}]})
    assert values["ours"]["against"] == "+0.0200 [−0.0100, +0.0300]"
    assert [row["untuned"] for row in values.values()] == ["", "", "*"]


def test_what_is_quoted_or_recorded_has_a_command() -> None:
    computed = set(quotable(read_figures())) - set(read_figures())
    text = "".join(template.read_text(encoding="utf-8") for template, _ in pages())
    quoted = set(re.findall(r"\{\{(?:rows of )?(\w+)", text))
    assert quoted - computed - GROUPS == set()
    assert set(read_figures()) - GROUPS == set()


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.groups[0])
def test_the_commands_and_paths_exist(recipe: Recipe) -> None:
    assert [path for path in recipe.paths if not (ROOT / path.removeprefix(":!")).exists()] == []
    _, module, name, *options = shlex.split(recipe.command)
    if module == "botify.bench":
        assert name in MEASUREMENTS
        return
    cli = build_cli(name) if module == "botify.services.cli" else studies
    command = get_command(cli).commands[name]  # type: ignore[attr-defined]
    given, _, _ = command.make_parser(command.context_class(command)).parse_args(list(options))
    if name == "bench":
        assert set((given.get("recommenders") or "botify").split(",")) <= set(measurable())


def test_figures_are_old_when_what_they_measure_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "ROOT", tmp_path)
    recipe = Recipe("-m botify.bench worker", ("worker",), ("streams", ":!streams/learner"))
    for folder in ("streams", "streams/learner", "sim"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "it.py").write_text("1", encoding="utf-8")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "-A")
    git(tmp_path, "commit", "-qm", "one")
    commit = git(tmp_path, "rev-parse", "--short", "HEAD")
    assert outdated(recipe, {}) == "worker is not recorded"
    assert outdated(recipe, {"worker": {"commit": f"{commit}-dirty"}}) is not None
    for unused in ("sim", "streams/learner"):
        (tmp_path / unused / "it.py").write_text("2", encoding="utf-8")
    assert outdated(recipe, {"worker": {"commit": commit}}) is None
    (tmp_path / "streams/it.py").write_text("2", encoding="utf-8")
    changed = f"1 files that it measures changed since {commit}, which gave worker"
    assert outdated(recipe, {"worker": {"commit": commit}}) == changed
    assert "not in this repository" in (outdated(recipe, {"worker": {"commit": "0123456"}}) or "")


def test_a_failure_does_not_keep_the_others_from_running(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(command: list[str], **_: Any) -> SimpleNamespace:
        assert command[0] == sys.executable
        ran.append(command[1:])
        if "--json" in command:
            Path(command[-1]).write_text(json.dumps({"recommenders": []}), encoding="utf-8")
        return SimpleNamespace(returncode=int("2022" in command))

    recorded: list[str] = []
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(recording, "load_average", lambda: 0.0)
    monkeypatch.setattr(recording, "fill_pages", lambda: True)
    monkeypatch.setattr(recording, "record", lambda group, *_: recorded.append(group))
    monkeypatch.setattr(recording, "outdated", lambda *_: "old")
    monkeypatch.setattr(recording, "check_name", lambda _: None)
    with pytest.raises(FigureError, match=r"ended with an error:\npython -m botify.bench.studies grade .* 2022"):
        main(None, only_list=False)
    assert [command[: len(shlex.split(recipe.command))] for command, recipe in zip(ran, RECIPES, strict=True)] == [
        shlex.split(recipe.command) for recipe in RECIPES
    ]
    assert set(recorded) == {group for group in GROUPS if group.startswith("evaluate")}
    ran.clear()
    main(["latency"], only_list=False)
    assert [command[2:4] for command in ran] == [["loop", "--record"]]
    with pytest.raises(FigureError, match="no command records mine; see RECIPES"):
        main(["mine"])


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if "item_knn" in recipe.command])
def test_nothing_begins_without_the_packages_of_the_peers(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "find_spec", lambda _: None)
    monkeypatch.setattr(subprocess, "run", pytest.fail)
    with pytest.raises(MissingPeerError, match=r"^item_knn needs the package implicit: pip install"):
        main([recipe.groups[0]], only_list=False)


def test_nothing_is_timed_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "load_average", lambda: 3.0)
    monkeypatch.setattr(recording, "WAIT_S", 0.0)
    with pytest.raises(FigureError, match=r"the load average is 3\.0 for 0 min; end other work"):
        recording.wait_for_quiet()
