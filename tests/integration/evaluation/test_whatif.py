"""Invariant: a run answered again by what served is identical in every bit; by another one it is judged."""

import json
from typing import Any

from typer.testing import CliRunner

from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.services.cli.main import build_cli
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.learning import all_learned
from tests.support import eventually, running

PROGRAMS = ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender")


def answered_again(settings: Settings, *arguments: str) -> dict[str, Any]:
    env = {**settings.to_env(), "COLUMNS": "160"}
    result = CliRunner().invoke(build_cli("whatif"), ["whatif", *arguments, "--json"], env=env)
    assert result.exit_code == 0, result
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def test_a_run_is_answered_again(settings: Settings) -> None:
    settings = settings.with_(recommender="rerank", snapshot_listens=1_000)
    config = WorldConfig(tracks=400, artists=80, genres=5, users=200, dimensions=8, clusters=2)
    world = World("small", *generate(config), {})
    publish_catalogue(settings, world.catalogue)
    worker, learner, recommender = (running(settings, module) for module in PROGRAMS)
    with worker, learner, recommender:
        run = run_loop(settings, world, RunOptions(sessions=250, in_flight=40, seed=5, run_id="r"))
        eventually(lambda: all_learned(settings), 60)
    itself = answered_again(settings, "--policy", "rerank")
    assert itself["requests"] == run.recommendations > 1_000
    assert (itself["computed_again"], itself["compared"]) == (1.0, run.recommendations), itself["missing"]
    assert itself["differ"] == 0
    value = itself["value"]
    assert value["ips"]["value"] == value["snips"]["value"] == value["served"]["value"] > 0
    assert value["answers"] == run.recommendations
    assert itself["cannot_tell"] is None
    assert abs(itself["percent"][0]) < 1e-9
    assert itself["served"]["artists"] == itself["instead"]["artists"]
    other = answered_again(settings, "--policy", "sticky_norepeat")
    assert other["compared"] == run.recommendations
    assert 0 < other["differ"] < 1
    assert other["value"]["served"] == value["served"]
    assert other["value"]["dr"]["value"]["lower"] < other["value"]["dr"]["value"]["upper"]
    frozen = answered_again(settings, "--policy", "rerank", "--frozen", "--share", "0.5")
    assert frozen["requests"] < run.recommendations
    assert frozen["differ"] > 0.1, "the models of the first request are none"
    for wrong in (("--policy", "nobody"), ("--policy", "random", "--to", "2020-01-01")):
        result = CliRunner().invoke(build_cli("whatif"), ["whatif", *wrong], env=settings.to_env())
        assert isinstance(result.exception, EvaluationError)
