"""Invariant: the bench draws what it says, so that its rates are those of the rule."""

from __future__ import annotations

import numpy as np
import pytest

from botify.analytics.decision import Rule
from botify.bench.decisions import GOALS, TRUTHS, Listeners, Truth, launch, measure_decisions, simulated_listeners
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World


def listeners(n: int = 2_000) -> Listeners:
    rng = np.random.default_rng(1)
    time, rate = rng.gamma(4.0, 0.5, n), rng.gamma(9.0, 1.0, n)
    after, before, first = (time * rng.normal(1.0, 0.15, n) for _ in range(3))
    counts = (rng.poisson(rate).astype(np.float64) for _ in range(2))
    return Listeners(after, before, *counts, first)


def test_rates_are_those_of_the_rule() -> None:
    truths = {name: truth._replace(launches=200) for name, truth in TRUTHS.items()}
    found = measure_decisions(listeners(), 1, truths, bad_launches=100)
    assert found.kinds["no effect"]["shipped"] <= 8
    assert found.kinds["time −20 %"]["rolled_back"] == 100
    assert found.kinds["time +5 %, latency +20 %"]["shipped"] == 0
    assert found.figures["power"] > 70
    assert found.figures["worse_p99_sessions"] < found.figures["worse_new_p99_sessions"]


def test_an_effect_is_what_the_treated_values_are_multiplied_by() -> None:
    certain = launch(listeners(), Truth(20, (0.5, 0.0, 0.0)), Rule(GOALS, 20_000), 10, np.random.default_rng(2))
    assert (certain.shipped > 0).all()
    assert (certain.rolled_back < 0).all()


def test_harm_is_beyond_the_margin() -> None:
    assert [name for name, truth in TRUTHS.items() if truth.harmful] == [
        "time +5 %, sessions −4 %", "time +5 %, latency +20 %", "time −2 %", "time −20 %", "latency +50 ms",
    ]  # fmt: skip
    assert sum(truth.launches for truth in TRUTHS.values()) == 10_000


def test_listeners_are_simulated() -> None:
    config = WorldConfig(tracks=100, artists=20, genres=5, users=60, dimensions=8)
    found = simulated_listeners(World("small", *generate(config), {}), users=60, days=4, seed=1)
    assert 40 < len(found.time) <= 60
    assert found.correlation("time") > 0
    assert found.sessions.mean() == pytest.approx(4.0, rel=0.4)
