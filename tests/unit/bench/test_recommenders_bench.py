"""Invariant: every recommender is measured on the same sessions, and a run can be repeated."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import botify.bench.cli
from botify.bench import retrieval
from botify.bench.cli import CONTROL, rows_of
from botify.bench.simulated import Measured, lists_for, measure
from botify.bench.yardsticks import ORACLE, SCENE
from botify.services.cli import build_cli
from botify.services.recommender import clusters
from botify.sim.loop.kafka import tracks_of
from botify.sim.options import RunOptions
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.unit.sim.conftest import SMALL

WORLD = World("small", *generate(SMALL), {})
TRACKS = {track.track: track for track in tracks_of(WORLD.catalogue)}
OPTIONS = RunOptions(sessions=150, in_flight=30, seed=3, start_ms=0)


@pytest.fixture(scope="module")
def runs() -> dict[str, list[Measured]]:
    names = CONTROL, "sticky_norepeat", "contextual", "rerank", SCENE, ORACLE
    return {name: [measure(WORLD, TRACKS, name, OPTIONS, lists_for(name, WORLD))] for name in names}


def test_all_are_measured_on_the_same_sessions(runs: dict[str, list[Measured]]) -> None:
    for (run,) in runs.values():
        assert run.users.tolist() == runs[CONTROL][0].users.tolist()
        assert len(run.times) == 150
        assert (run.times <= run.tracks).all()


def test_nobody_is_above_the_oracle_and_what_never_repeats_does_not(runs: dict[str, list[Measured]]) -> None:
    rows = {row.name: row for row in rows_of(runs)}
    assert max(rows.values(), key=lambda row: row.time.estimate).name == ORACLE
    oracle, scene, control = (rows[name].gap for name in (ORACLE, SCENE, CONTROL))
    assert (oracle.regret_percent, oracle.closed.estimate) == pytest.approx((0, 100))
    assert control.closed == (0, 0, 0)
    assert 0 < scene.closed.lower < scene.closed.estimate < scene.closed.upper < 100
    assert rows[SCENE].repeats == 0
    assert rows["sticky_norepeat"].repeats == 0 < rows[CONTROL].repeats
    assert rows[CONTROL].effect.estimate == rows[CONTROL].effect.lower == 0
    assert rows["rerank"].effect.estimate > 0
    assert all(row.us_per_recommendation > 0 for name, row in rows.items() if name not in (ORACLE, SCENE))


def test_the_command_records_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOTIFY_HOME", str(tmp_path))
    world = tmp_path / "world.toml"
    world.write_text("\n".join(f"{key} = {value}" for key, value in asdict(SMALL).items()), encoding="utf-8")
    recorded: dict[str, Mapping[str, Any]] = {}
    monkeypatch.setattr(botify.bench.cli, "record_command", recorded.update)
    arguments = ["random", "--sessions", 100, "--jobs", 1, "--world", world, "--record", "trial", "--json"]
    run = CliRunner().invoke(build_cli("bench"), ["bench", *map(str, arguments)])
    assert run.exit_code == 0, run.output
    assert recorded["trial"].keys() == {"random", CONTROL}
    found = recorded["trial"]["random"]
    assert found.keys() == {"time", "effect", "lower", "upper", "us", "coverage_percent", "repeats_percent"}
    assert found["lower"] < found["effect"] < found["upper"]
    assert json.loads(run.stdout)["random"] == pytest.approx(found)


def test_a_recommender_that_is_none_is_named() -> None:
    for unknown, arguments in (("sticky", ["rerank,sticky"]), ("oracle", [ORACLE, "--online"])):
        run = CliRunner().invoke(build_cli("bench"), ["bench", *arguments])
        assert isinstance(run.exception, botify.bench.cli.BenchError)
        assert str(run.exception).startswith(f"unknown recommender {unknown!r}; choose from random, ")


def test_more_clusters_find_more_of_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "MOST_CLUSTERS", 40)
    monkeypatch.setattr(retrieval, "OWN", 1.0)
    found = retrieval.measure_retrieval(tracks=8_400, sessions=20, seconds=0.1)
    assert found["recall_of_four_cells"] < found["recall"]
    assert found["request_us"] > 0
    assert found["p99_ms"] > 0
