"""Invariant: traffic grows while nothing is worse, and returns to the control once it is, in services that run."""

import itertools
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest
from confluent_kafka import KafkaException, Producer

from botify.core.kafka.config import producer_config
from botify.core.settings import Settings
from botify.evaluation.launch import Judge
from botify.evaluation.ramp import Ramp
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, RampStep
from botify.schemas.topics import Topics
from botify.services.experiments import LiveExperiments, load_experiments
from botify.services.experiments.live import StepLog
from botify.sim.loop import run_loop
from botify.sim.loop.kafka import publish_catalogue
from botify.sim.options import RunOptions
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from tests.chaos.programs import SESSION_TIMEOUT_S, Program
from tests.support import (
    BASE_MS,
    Repeatedly,
    all_folded,
    eventually,
    listens_of_users,
    offline_fold,
    produce,
    read_events,
    redis_contents,
    running,
    write_catalogue,
)

CODEC = Codec()
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "toppop" }, { name = "T1", recommender = "sticky_artist" }]
success = ["mean_time_per_session"]
guardrails = { mean_request_latency = 0.2 }
ramp = [0.1, 0.5, 1.0]
"""
FAILPOINTS = ("before-apply:1", "after-apply:1")
"""Where workers are killed, one after another; the last one lives."""
LISTENERS = 1_000
"""New listeners of a round."""


@pytest.fixture
def live(settings: Settings, tmp_path: Path) -> Iterator[LiveExperiments]:
    path = tmp_path / "ramped.toml"
    path.write_text(DECLARED)
    with closing(LiveExperiments(settings, CODEC, load_experiments(path))) as live:
        live.start()
        yield live


@contextmanager
def ramp_of(settings: Settings, live: LiveExperiments, listeners: int) -> Iterator[Ramp]:
    judge = Judge(live.current.at({}).experiments[0], window_h=1.0, listeners=listeners)
    with closing(Ramp(settings, CODEC, judge, listeners_a_step=50)) as ramp:
        yield ramp


def listen_to(settings: Settings, live: LiveExperiments, round_: int) -> None:
    """Let new listeners have a session each, two hours after those of the last round; they hear more of T1."""
    rng = np.random.default_rng(round_)
    listens = []
    for user in range(round_ * LISTENERS, (round_ + 1) * LISTENERS):
        treatments = live.assign(user).treatments
        if not treatments:
            continue
        fraction = 0.515 if treatments["A"] == "T1" else 0.5
        at_ms = BASE_MS + round_ * 7_200_000
        for position in range(5):
            heard = float(np.clip(rng.normal(fraction, 0.15), 0, 1))
            last = position == 4
            listens.append(
                Listen(
                    f"{user}-{position}", user, 1, heard, at_ms + position, f"s-{user}-0", position, last,
                    "x", treatments, 0.1, float(rng.gamma(20.0, 0.5)),
                )
            )  # fmt: skip
    produce(settings, Topics.of(settings).listens.name, listens)


@contextmanager
def killed_workers(settings: Settings) -> Iterator[None]:
    """Fold with workers that are killed in the middle of an apply; in the end no listen is lost."""
    settings = settings.with_(session_timeout_s=SESSION_TIMEOUT_S)
    workers = [Program(settings, "botify.streams.worker", "worker-0", {"BOTIFY_FAILPOINTS": FAILPOINTS[0]})]

    def replace_the_dead() -> None:
        if not workers[-1].running:
            at = {"BOTIFY_FAILPOINTS": FAILPOINTS[len(workers)]} if len(workers) < len(FAILPOINTS) else {}
            workers.append(Program(settings, "botify.streams.worker", f"worker-{len(workers)}", at))

    try:
        with Repeatedly(0.1, replace_the_dead):
            yield
            eventually(all_folded(settings))
    finally:
        workers[-1].kill()
    assert workers[0].exit_status == -signal.SIGKILL
    assert redis_contents(settings) == offline_fold(settings).contents()
    listens = {listen.event_id for listen in read_events(settings, Topics.of(settings).listens, Listen)}
    assert sum(listens_of_users(redis_contents(settings)).values()) == len(listens)


def test_a_better_treatment_gets_all_listeners_while_workers_are_killed(
    settings: Settings, live: LiveExperiments
) -> None:
    assert live.assign(1).treatments == {}
    write_catalogue(settings, 2)
    steps: list[RampStep] = []
    with killed_workers(settings):
        for round_ in range(12):
            with ramp_of(settings, live, 1_800) as ramp:  # each round has another process, as after a kill
                if (taken := ramp.step()) is not None:
                    steps.append(taken)
                    share = pytest.approx(taken.share)
                    eventually(lambda: live.current.experiments[0].traffic == share, what="the step")  # noqa: B023
                    if taken.arm is not None:
                        break
            listen_to(settings, live, round_)
            eventually(all_folded(settings))
    assert [(step.share, step.arm) for step in steps] == [(0.1, None), (0.5, None), (1.0, None), (1.0, "T1")]
    assert steps[-1].reason.startswith("Ship T1 sticky_artist: time per session is")
    assert all(live.assign(user) == ({}, "sticky_artist") for user in range(300))


def test_a_ramp_sees_the_rollback_of_another_and_no_late_step_undoes_it(
    settings: Settings, live: LiveExperiments
) -> None:
    with (
        ramp_of(settings, live, 50) as one,
        ramp_of(settings, live, 50) as other,
        closing(StepLog(settings, CODEC)) as steps,
    ):
        begun = one.step()
        assert begun is not None
        assert other.step() == begun == steps.read()["A"]
        # frozen in the middle of an append
        frozen = Producer(producer_config(settings, transactional_id=f"{Topics.of(settings).experiments.name}-A"))
        frozen.init_transactions(30)
        frozen.begin_transaction()
        raised = begun._replace(share=1.0, reason="late")
        frozen.produce(Topics.of(settings).experiments.name, CODEC.encode(raised), b"A")
        frozen.flush(30)
        back = steps.append(begun._replace(share=1.0, arm="C", reason="worse"), begun)
        assert back is not None
        with pytest.raises(KafkaException):
            frozen.commit_transaction(30)
        with closing(StepLog(settings, CODEC)) as late:
            assert late.append(raised, begun) is None
        assert one.step() == other.step() == back
        assert one.step() is other.step() is None
        eventually(lambda: live.steps["A"] == back)


SLOW = 'default = "random"' + DECLARED.replace("toppop", "random").replace("[0.1, 0.5, 1.0]", "[1.0]")
LISTENS_PER_S = 30.0
"""Few enough that the control's requests seldom wait behind the slow ones: they share a process."""
MOST_SESSIONS = 2_000


def test_a_recommender_that_is_slower_is_rolled_back_live(settings: Settings, tmp_path: Path) -> None:
    """Real recommenders, workers that are killed, and `botify experiment ramp` as a program, killed once too."""
    path = tmp_path / "slow.toml"
    path.write_text(SLOW)
    settings = settings.with_(experiments=path)
    config = WorldConfig(tracks=400, artists=80, genres=6, users=5_000, dimensions=12, clusters=4)
    world = World("small", *generate(config), {})
    publish_catalogue(settings, world.catalogue)
    command = [sys.executable, "-m", "botify.services.cli", "experiment", "ramp", "A", "--step-listeners", "200"]
    output = tmp_path / "ramp.log"

    def start_ramp() -> subprocess.Popen[bytes]:
        with output.open("ab") as log:
            return subprocess.Popen(command, env=os.environ | settings.to_env(), stdout=log, stderr=log)  # noqa: S603

    with running(settings, "tests.chaos.slow_recommender"), killed_workers(settings):
        ramp = start_ramp()
        try:
            eventually(lambda: "the ramp begins" in output.read_text())
            ramp.kill()
            ramp.wait()
            ramp = start_ramp()
            for seed in itertools.count():
                # all sessions to their end: after some seconds, the listeners whose answers are slow would be missing
                run_loop(settings, world, RunOptions(rate=LISTENS_PER_S, in_flight=20, sessions=40, seed=seed))
                if ramp.poll() is not None or sessions_of(settings) > MOST_SESSIONS:
                    break
            assert ramp.wait(20) == 1, output.read_text()
        finally:
            ramp.kill()
            ramp.wait()
    assert re.search("Roll back T1.*request latency", output.read_text(), re.DOTALL), output.read_text()
    assert sessions_of(settings) <= MOST_SESSIONS


def sessions_of(settings: Settings) -> int:
    listens = read_events(settings, Topics.of(settings).listens, Listen)
    return len({listen.session_id for listen in listens if listen.treatments})
