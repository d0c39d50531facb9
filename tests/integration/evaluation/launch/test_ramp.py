"""Invariant: traffic grows while nothing is worse, and returns to the control once it is, in services that run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import pytest

from core.settings import Settings
from evaluation.launch.judge import Judge
from evaluation.launch.ramp import Ramp
from schemas.codec import Codec
from schemas.events import Listen, RampStep
from schemas.topics import Topics
from services.experiments import LiveExperiments, load_experiments
from tests.support import BASE_MS, eventually, produce

CODEC = Codec()
DECLARED = """
[[experiment]]
name = "A"
treatments = [{ name = "C", recommender = "toppop" }, { name = "T1", recommender = "sticky_artist" }]
success = ["mean_time_per_session"]
guardrails = { mean_request_latency = 0.2 }
ramp = [0.1, 0.5, 1.0]
"""
LISTENERS = 1_000
"""New listeners of a round."""
Reaction = Callable[[str], tuple[float, float]]
"""Treatment to the fraction heard and the latency in ms."""


def good(treatment: str) -> tuple[float, float]:
    return (0.515, 10.0) if treatment == "T1" else (0.5, 10.0)


def slow(treatment: str) -> tuple[float, float]:
    return (0.65, 60.0) if treatment == "T1" else (0.5, 10.0)


def worse(treatment: str) -> tuple[float, float]:
    return (0.4, 10.0) if treatment == "T1" else (0.5, 10.0)


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


def listen_to(settings: Settings, live: LiveExperiments, reaction: Reaction, round_: int) -> None:
    """Let new listeners have a session each, two hours after those of the last round."""
    rng = np.random.default_rng(round_)
    listens = []
    for user in range(round_ * LISTENERS, (round_ + 1) * LISTENERS):
        treatments = live.assign(user).treatments
        if not treatments:
            continue
        fraction, latency_ms = reaction(treatments["A"])
        at_ms = BASE_MS + round_ * 7_200_000
        for position in range(5):
            heard = float(np.clip(rng.normal(fraction, 0.15), 0, 1))
            last = position == 4
            listens.append(
                Listen(
                    f"{user}-{position}", user, 1, heard, at_ms + position, f"s-{user}-0", position, last,
                    "x", treatments, 0.1, float(rng.gamma(20.0, latency_ms / 20.0)),
                )
            )  # fmt: skip
    produce(settings, Topics.of(settings).listens.name, listens)


def shares_of(settings: Settings, live: LiveExperiments, reaction: Reaction, listeners: int) -> list[RampStep]:
    """Ramp until it is decided; after each step another process continues, as after a kill."""
    steps: list[RampStep] = []
    for round_ in range(12):
        with ramp_of(settings, live, listeners) as ramp:
            if (taken := ramp.step()) is not None:
                steps.append(taken)
                eventually(lambda: live.current.experiments[0].traffic == pytest.approx(taken.share), what="the step")
                if taken.arm is not None:
                    break
        listen_to(settings, live, reaction, round_)
    return steps


def test_a_better_treatment_gets_all_listeners_step_by_step(settings: Settings, live: LiveExperiments) -> None:
    assert live.assign(1).treatments == {}
    steps = shares_of(settings, live, good, listeners=1_800)
    assert [(step.share, step.arm) for step in steps] == [(0.1, None), (0.5, None), (1.0, None), (1.0, "T1")]
    assert steps[-1].reason.startswith("Ship T1 sticky_artist: time per session is")
    assert all(live.assign(user) == ({}, "sticky_artist") for user in range(300))


@pytest.mark.parametrize(("reaction", "metric"), [(worse, "time per session"), (slow, "request latency, ms")])
def test_a_bad_treatment_is_rolled_back(
    settings: Settings, live: LiveExperiments, reaction: Reaction, metric: str
) -> None:
    steps = shares_of(settings, live, reaction, listeners=20_000)
    assert steps[-1].arm == "C"
    assert f"Roll back T1: {metric} is" in steps[-1].reason
    assert {live.assign(user).recommender for user in range(300)} == {"toppop"}
    with ramp_of(settings, live, 20_000) as ramp:
        assert ramp.step() is None  # a decision is final
