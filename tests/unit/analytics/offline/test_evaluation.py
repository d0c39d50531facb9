"""Policies that draw from lists, in a world whose rewards are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analytics.offline.data import Lists, RewardModel
from analytics.offline.off_policy import Evaluation, earned, evaluate_drawn

TRACKS = 40
ARTIST_OF = np.arange(TRACKS) // 4
WORTH = np.random.default_rng(5).random(TRACKS) * 0.6


def reward_of(previous: np.ndarray, track: np.ndarray) -> np.ndarray:
    return WORTH[track] + 0.3 * (ARTIST_OF[previous] == ARTIST_OF[track])


def logged(rng: np.random.Generator, decisions: int) -> pd.DataFrame:
    """Random tracks after random tracks."""
    previous, track = rng.integers(0, TRACKS, (2, decisions))
    reward = reward_of(previous, track) + rng.normal(0, 0.1, decisions)
    return pd.DataFrame(
        {
            "user": rng.integers(0, decisions // 3, decisions),
            "previous": previous,
            "track": track,
            "reward": reward,
            "propensity": 1 / TRACKS,
        }
    )


def same_artist(decisions: pd.DataFrame) -> Lists:
    return ARTIST_OF[decisions["previous"].to_numpy()][:, None] * 4 + np.arange(4)


def evaluated(rng: np.random.Generator) -> Evaluation:
    model = RewardModel.fit(logged(rng, 3_000), ARTIST_OF)
    decisions = logged(rng, 3_000)
    return evaluate_drawn(decisions, same_artist(decisions), TRACKS, model)


def test_the_model_learns_what_tracks_and_artists_are_worth() -> None:
    model = RewardModel.fit(logged(np.random.default_rng(1), 200_000), ARTIST_OF)
    previous, track = np.arange(TRACKS), np.arange(TRACKS)[::-1]
    predicted = model.predict(previous, np.column_stack([track, previous]))
    # a tenth of the decisions keep to the artist, so a track's mean has a tenth of what that adds
    assert predicted[:, 0] == pytest.approx(reward_of(previous, track) + 0.03, abs=0.02)
    assert model.same_artist == pytest.approx(0.27, abs=0.02)


def test_all_estimates_find_what_the_policy_earns_where_it_is_run() -> None:
    rng = np.random.default_rng(2)
    own = logged(rng, 30_000)
    drawn = same_artist(own)[np.arange(len(own)), rng.integers(0, 4, len(own))]
    truth = reward_of(own["previous"].to_numpy(), drawn).mean()
    covered = np.zeros(3)
    for seed in range(100):
        covered += [value.lower <= truth <= value.upper for value in evaluated(np.random.default_rng([2, seed]))]
    assert (covered >= 90).all(), covered


def test_a_model_that_knows_something_makes_the_interval_narrower() -> None:
    found = evaluated(np.random.default_rng(3))
    assert found.dr.upper - found.dr.lower < found.snips.upper - found.snips.lower < found.ips.upper - found.ips.lower


def test_a_policy_that_takes_no_logged_decision_has_no_estimate_by_its_weights() -> None:
    decisions = logged(np.random.default_rng(6), 30)
    model = RewardModel.fit(decisions, ARTIST_OF)
    others = ((decisions["track"].to_numpy() + 1) % TRACKS)[:, None]
    found = evaluate_drawn(decisions, others, TRACKS, model)
    assert np.isnan(found.snips.value)
    assert found.ips.value == 0.0
    assert found.dr.value == pytest.approx(model.predict(decisions["previous"].to_numpy(), others).mean())


def test_the_policy_that_logged_earns_the_mean() -> None:
    decisions = logged(np.random.default_rng(4), 500)
    model = RewardModel.fit(decisions, ARTIST_OF)
    everything = np.tile(np.arange(TRACKS), (500, 1))
    found = evaluate_drawn(decisions, everything, TRACKS, model)
    assert found.ips == earned(decisions)
    assert found.snips.value == pytest.approx(decisions["reward"].mean())
