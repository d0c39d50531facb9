"""Invariant: whatever was killed or moved while answers were given, each is computed again from the topics, every bit.

Two workers, two recommenders and a learner answer simulated listeners; each is killed and comes back, so partitions
move twice, while models change every 1,000 listens or so and a ramp takes steps.
"""

import os
import time
from pathlib import Path

import pytest

from botify.core.settings import Settings
from botify.evaluation.whatif.answers import Window, answer_again, read_answered
from botify.evaluation.why.evidence import read_past
from botify.evaluation.why.recompute import serve
from botify.evaluation.why.versions import find_catalogues, find_models, labels_of
from botify.schemas.codec import Codec
from botify.schemas.events import RampStep
from botify.services.experiments.live import StepLog
from botify.services.stack.embedded import EmbeddedStack
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.world import World, WorldConfig
from botify.sim.world.generate import generate
from tests.chaos.programs import SESSION_TIMEOUT_S, Program
from tests.chaos.whole import caught_up
from tests.support import UNHURRIED_S, Background, deployed, eventually

CODEC = Codec()
ANSWERS = int(os.environ.get("BOTIFY_TEST_ANSWERS", "10000"))
PER_S = 300
LISTENS = ANSWERS * 5 // 4  # a session's first has no answer before it, and its last none after it
WORLD = WorldConfig(tracks=400, artists=80, genres=6, users=300, dimensions=12, clusters=4)
EXPERIMENTS = """
default = "sticky_norepeat"
[[experiment]]
name = "A"
success = ["mean_time_per_session"]
ramp = [0.2, 0.5, 1.0]
treatments = [{ name = "C", recommender = "rerank" }, { name = "T1", recommender = "botify" }]
"""


@pytest.mark.nightly
def test_all_answers_of_a_run_with_kills_and_a_ramp_are_equal(stack: EmbeddedStack, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments.toml"
    experiments.write_text(EXPERIMENTS)
    settings = deployed(stack.settings, tmp_path, session_timeout_s=SESSION_TIMEOUT_S, experiments=experiments)
    world = World("small", *generate(WORLD), {})
    publish_catalogue(settings, world.catalogue)
    modules = ("streams.worker", "streams.worker", "services.recommender", "services.recommender", "streams.learner")
    programs = [Program(settings, f"botify.{module}", f"{at}") for at, module in enumerate(modules)]
    options = RunOptions(listens=LISTENS, rate=PER_S, in_flight=200, timeout_s=UNHURRIED_S)
    done = []
    try:
        eventually(lambda: programs[2].said("ready") and programs[3].said("ready"))
        with Background(lambda: done.append(run_loop(settings, world, options))):
            disturb(settings, programs, modules)
        caught_up(settings)
    finally:
        for program in programs:
            program.kill()
    assert done[0].timed_out == 0
    compare(settings)


def disturb(settings: Settings, programs: list[Program], modules: tuple[str, ...]) -> None:
    """Kill each program while listeners listen, start another, and raise the ramp's share."""
    steps, last = StepLog(settings, CODEC), None
    pause_s = LISTENS / PER_S / (len(modules) + 2)
    for at, share in enumerate((0.2, 0.5, 1.0, None, None)):
        time.sleep(pause_s)
        if share is not None:
            last = steps.append(RampStep("A", share, None, 0, 0, "a test"), last)
            assert last is not None
        programs[at].kill()
        time.sleep(1.0)
        programs[at] = Program(settings, f"botify.{modules[at]}", f"{at}-again")
    steps.close()


def compare(settings: Settings) -> None:
    found = read_answered(settings, CODEC, Window(0, int(time.time() * 1000) + 60_000))
    past = read_past(settings, CODEC, {one.answer.user for one in found})
    versions = [one.answer.versions or {} for one in found]
    labels = set[tuple[str, str]]().union(*map(labels_of, versions))
    models, catalogues = find_models(settings, CODEC, labels), find_catalogues(settings, CODEC, versions)
    again = answer_again(
        found, past, "random", lambda versions: serve(catalogues, versions, models), lambda one: None, CODEC
    )
    arms = {tuple(one.answer.treatments.items()) for one in found}
    assert again.requests > 0.9 * ANSWERS
    assert again.equal == again.requests, again.missing
    assert len(labels) > 5
    assert len(arms) == 3  # of both treatments, and of those who do not take part yet
