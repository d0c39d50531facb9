"""The statistics on listeners of the simulator, where the truth is known."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from botify.analytics.offline.off_policy import Decisions, PolicyValue, doubly_robust, ips, snips
from botify.analytics.statistics import ConfidenceSequence, cuped, running_sample
from botify.core.welch import Sample, welch
from botify.sim.listeners.botify import BotifyListeners
from botify.sim.schedule import RelaySchedule
from botify.sim.simulation import FinishedListens, Simulation
from botify.sim.world.model import World
from tests.unit.analytics.simulated import play, sessions_frame, small_world

Floats = NDArray[np.float64]
SPLITS = 1_000
SEEDS = 400
"""Of 100, an interval that covers 95 % would cover fewer than 93 once in eight times, by chance alone."""


@pytest.fixture(scope="module")
def listeners() -> pd.DataFrame:
    """Mean time per session of 1,500 listeners, in three sessions before an experiment and three in it."""
    world = small_world(users=1_500)
    rng = np.random.default_rng(30)
    played = play(world, lambda asking: rng.integers(0, 300, len(asking)), seed=30, sessions_each=6)
    sessions = sessions_frame(played)
    sessions["period"] = np.where(sessions["ordinal"] < 3, "before", "during")
    return sessions.pivot_table(index="user", columns="period", values="time")


def test_false_positives_on_the_same_listeners_split_at_random(listeners: pd.DataFrame) -> None:
    values, before = listeners["during"].to_numpy(), listeners["before"].to_numpy()
    sequence = ConfidenceSequence(tuned_for=len(values) // 2)
    rng = np.random.default_rng(31)
    found = dict.fromkeys(("welch", "cuped", "sequence at every look"), 0)
    reductions = []
    for _ in range(SPLITS):
        split = rng.random(len(values)) < 0.5
        adjusted = cuped(values, before, split)
        reductions.append(adjusted.variance_reduction)
        for name, compared in (("welch", values), ("cuped", adjusted.values)):
            found[name] += welch(Sample.of(compared[~split]), Sample.of(compared[split])).significant
        control, treatment = running_sample(values, ~split), running_sample(values, split)
        outside = np.abs(treatment.mean - control.mean) > sequence.half_width(control, treatment)
        found["sequence at every look"] += bool(outside.any())
    print(f"false positives in {SPLITS}: {found}; CUPED takes {np.mean(reductions):.1%} of the variance")
    assert found["welch"] / SPLITS == pytest.approx(0.05, abs=0.015)
    assert found["cuped"] / SPLITS == pytest.approx(0.05, abs=0.015)
    assert found["sequence at every look"] / SPLITS <= 0.05
    assert np.mean(reductions) > 0.1


class Softmax(NamedTuple):
    """Recommends by likeness to the track just heard; a low temperature keeps close to it."""

    world: World
    temperature: float

    def probabilities(self, tracks: NDArray[np.int64]) -> Floats:
        vectors = self.world.catalogue.embeddings.astype(np.float64)
        scores = vectors[tracks] @ vectors.T / self.temperature
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        return weights / weights.sum(axis=1, keepdims=True)


class Log(NamedTuple):
    """The first recommendation of each session: (sessions,) each."""

    heard: NDArray[np.int64]
    recommended: NDArray[np.int64]
    reward: Floats


def first_recommendations(policy: Softmax, seed: int) -> Log:
    world = policy.world
    users = len(world.listeners)
    simulation = Simulation(
        world, BotifyListeners(world, seed), RelaySchedule(np.arange(users), users, sessions=users), seed
    )
    asking: FinishedListens = simulation.finish_listens(2**50)
    cumulative = np.cumsum(policy.probabilities(asking.tracks), axis=1)
    drawn = np.random.default_rng(seed).random((users, 1)) * cumulative[:, -1:]
    recommended = (drawn > cumulative).sum(axis=1)
    simulation.answer(asking.slots, recommended)
    heard = simulation.finish_listens(2**50)
    reward = np.empty(users)
    reward[heard.slots] = heard.fractions
    return Log(asking.tracks, recommended, reward[asking.slots])


def estimates(log: Log, logging: Softmax, target: Softmax, model: Floats) -> dict[str, PolicyValue]:
    each = np.arange(len(log.heard))
    wanted = target.probabilities(log.heard)
    propensities = logging.probabilities(log.heard)[each, log.recommended]
    decisions = Decisions(log.reward, propensities, wanted[each, log.recommended])
    return {
        "ips": ips(decisions),
        "snips": snips(decisions),
        "dr": doubly_robust(decisions, model[log.heard, log.recommended], (model[log.heard] * wanted).sum(axis=1)),
    }


def test_off_policy_intervals_cover_what_running_the_policy_shows() -> None:
    world = small_world(users=1_000, tracks=100)
    logging, target = Softmax(world, 12.0), Softmax(world, 4.0)
    truth, logged = (
        np.mean([first_recommendations(policy, seed).reward.mean() for seed in range(1_000, 1_400)])
        for policy in (target, logging)
    )
    # the reward model is learned from the past: mean reward by likeness
    past = first_recommendations(logging, seed=999)
    likeness = logging.probabilities(np.arange(100))
    edges = np.quantile(likeness, np.linspace(0, 1, 6)[1:-1])
    bins = np.digitize(likeness, edges)
    seen = bins[past.heard, past.recommended]
    model = (np.bincount(seen, past.reward, 5) / np.maximum(np.bincount(seen, minlength=5), 1))[bins]
    covered = dict.fromkeys(("ips", "snips", "dr"), 0)
    for seed in range(SEEDS):
        for name, found in estimates(first_recommendations(logging, seed), logging, target, model).items():
            covered[name] += int(found.lower <= truth <= found.upper)
    print(f"truth {truth:.4f}, logging policy {logged:.4f}, covered in {SEEDS} seeds: {covered}")
    assert truth > 1.1 * logged
    assert min(covered.values()) >= 0.93 * SEEDS
