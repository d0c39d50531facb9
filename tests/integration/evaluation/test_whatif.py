"""Invariant: a run answered again by what served is identical in every bit; by another one it is judged."""

import pytest

from botify.core.settings import Settings
from botify.evaluation import EvaluationError
from botify.schemas.events import Recommendation
from botify.schemas.topics import Topics
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.commands import as_json, botify
from tests.learning import all_learned
from tests.support import UNHURRIED_S, eventually, read_events, running

PROGRAMS = ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender")


def test_a_run_is_answered_again(settings: Settings) -> None:
    settings = settings.with_(recommender="rerank", snapshot_listens=500)
    config = WorldConfig(tracks=400, artists=80, genres=5, users=200, dimensions=8, clusters=2)
    world = World("small", *generate(config), {})
    publish_catalogue(settings, world.catalogue)
    worker, learner, recommender = (running(settings, module) for module in PROGRAMS)
    requests = 0

    def play(sessions: int) -> bool:
        """Return whether models have answered already."""
        nonlocal requests
        options = RunOptions(
            sessions=sessions, in_flight=30, seed=requests + 1, run_id=f"r{requests}", timeout_s=UNHURRIED_S
        )
        requests += run_loop(settings, world, options).recommendations
        answers = read_events(settings, Topics.of(settings).recommendations, Recommendation)
        return any(one.recommender == "rerank" for one in answers)

    with worker, learner, recommender:
        play(80)
        eventually(lambda: all_learned(settings), 120)
        eventually(lambda: play(20), 120)
        assert play(60)
        eventually(lambda: all_learned(settings), 120)
    itself = as_json(settings, "whatif", "--policy", "rerank")
    assert itself["requests"] == requests > 500
    assert (itself["computed_again"], itself["compared"]) == (1.0, requests), itself["missing"]
    assert itself["differ"] == 0
    value = itself["value"]
    assert value["ips"]["value"] == value["snips"]["value"] == value["served"]["value"] > 0
    assert value["answers"] == requests
    assert itself["cannot_tell"] is None
    assert abs(itself["percent"][0]) < 1e-9
    assert itself["served"]["artists"] == itself["instead"]["artists"]
    other = as_json(settings, "whatif", "--policy", "sticky_norepeat")
    assert other["compared"] == requests
    assert 0 < other["differ"] < 1
    assert other["value"]["served"] == value["served"]
    assert other["value"]["dr"]["value"]["lower"] < other["value"]["dr"]["value"]["upper"]
    frozen = as_json(settings, "whatif", "--policy", "rerank", "--frozen", "--share", "0.5")
    assert frozen["requests"] < requests
    assert frozen["differ"] > 0.1, "the models of the first request are none"
    for wrong in (("--policy", "nobody"), ("--policy", "random", "--to", "2020-01-01")):
        with pytest.raises(EvaluationError):
            botify(settings, "whatif", *wrong)
