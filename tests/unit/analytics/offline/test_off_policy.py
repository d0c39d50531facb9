"""Off-policy estimators against simulation, and policies that draw from lists."""

import numpy as np
import pandas as pd
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.data import listens_frame
from botify.analytics.offline.off_policy import (
    Decisions,
    Interval,
    RewardModel,
    doubly_robust,
    evaluate_drawn,
    ips,
    logged_decisions,
    mean_over_list,
    padded,
    probability,
    snips,
)
from botify.analytics.offline.ranking import NO_TRACK
from tests.unit.analytics.listens import drawn, listen


def test_on_the_logging_policy_itself_every_estimate_is_the_mean() -> None:
    rewards, p = np.array([1.0, 0.0, 0.5]), np.array([0.2, 0.5, 0.3])
    same = Decisions(rewards, p, p)
    assert ips(same).value == snips(same).value == pytest.approx(0.5)
    assert ips(same).effective_decisions == pytest.approx(3.0)
    zeros = np.zeros(3)
    assert doubly_robust(same, zeros, zeros) == ips(same)


def test_by_hand() -> None:
    decisions = Decisions(np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.25]), np.array([1.0, 0.0, 0.25]))
    assert ips(decisions).value == pytest.approx((2 + 0 + 1) / 3)
    assert snips(decisions).value == pytest.approx(1.0)
    assert ips(decisions, clip=1.0).value == pytest.approx(2 / 3)
    assert ips(decisions).effective_decisions == pytest.approx(9 / 5)
    half = 4.302652729749462 / np.sqrt(3)  # deviations 1, -1, 0: standard deviation 1
    assert ips(decisions).upper == pytest.approx(1 + half, rel=1e-9)


def test_decisions_of_one_user_say_less_than_those_of_many() -> None:
    mood = np.repeat(np.random.default_rng(12).normal(size=50), 20)
    p = np.full(1_000, 0.5)
    together, alone = (ips(Decisions(mood, p, p, users)) for users in (np.repeat(np.arange(50), 20), None))
    assert together.value == alone.value
    assert together.upper - together.lower > 3 * (alone.upper - alone.lower)
    one = Decisions(np.ones(2), np.ones(2), np.ones(2), np.zeros(2, dtype=np.int64))
    assert np.isnan(ips(one).lower)


def test_impossible_probabilities_and_lengths_and_policies_that_never_meet_are_refused() -> None:
    for propensity, target, message in ((0.0, 0.5, "propensities"), (1.5, 0.5, "propensities"), (0.5, -0.1, "target")):
        with pytest.raises(AnalyticsError, match=message):
            Decisions(np.ones(1), np.array([propensity]), np.array([target]))
    with pytest.raises(AnalyticsError, match="one length"):
        Decisions(np.ones(2), np.ones(1), np.ones(1))
    with pytest.raises(AnalyticsError, match="none of the logged"):
        snips(Decisions(np.ones(2), np.ones(2), np.zeros(2)))


def test_intervals_of_rare_rewards_cover_better_when_they_are_corrected_for_skewness() -> None:
    generator, covered = np.random.default_rng(5), dict.fromkeys(Interval, 0)
    for _ in range(400):
        weights = generator.choice([0.5, 4.0], 1_500, p=[6 / 7, 1 / 7])  # with a mean of 1
        log = Decisions((generator.random(1_500) < 0.03).astype(float), np.full(1_500, 1 / 8), weights / 8)
        for interval in Interval:
            _, lower, upper, _ = ips(log, interval=interval)
            covered[interval] += lower <= 0.03 <= upper
    assert covered[Interval.T] < 0.935 * 400
    assert 0.93 * 400 < covered[Interval.SKEWED] < 0.985 * 400


TRACKS = 40
ARTIST_OF = np.arange(TRACKS) // 4
WORTH = np.random.default_rng(5).random(TRACKS) * 0.6


def reward_of(previous: np.ndarray, track: np.ndarray) -> np.ndarray:
    return WORTH[track] + 0.3 * (ARTIST_OF[previous] == ARTIST_OF[track])


def logged(rng: np.random.Generator, decisions: int) -> pd.DataFrame:
    previous, track = rng.integers(0, TRACKS, (2, decisions))
    reward = reward_of(previous, track) + rng.normal(0, 0.1, decisions)
    users = rng.integers(0, decisions // 3, decisions)
    columns = {"user": users, "previous": previous, "track": track, "reward": reward, "propensity": 1 / TRACKS}
    return pd.DataFrame(columns)


def same_artist(decisions: pd.DataFrame) -> np.ndarray:
    return ARTIST_OF[decisions["previous"].to_numpy()][:, None] * 4 + np.arange(4)


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
        rng = np.random.default_rng([2, seed])
        model, decisions = RewardModel.fit(logged(rng, 3_000), ARTIST_OF), logged(rng, 3_000)
        found = evaluate_drawn(decisions, same_artist(decisions), TRACKS, model)
        covered += [value.lower <= truth <= value.upper for value in found]
    assert (covered >= 90).all(), covered


def test_a_policy_that_takes_no_logged_decision_has_no_estimate_by_its_weights() -> None:
    decisions = logged(np.random.default_rng(6), 30)
    model = RewardModel.fit(decisions, ARTIST_OF)
    others = ((decisions["track"].to_numpy() + 1) % TRACKS)[:, None]
    found = evaluate_drawn(decisions, others, TRACKS, model)
    assert np.isnan(found.snips.value)
    assert found.ips.value == 0.0
    assert found.dr.value == pytest.approx(model.predict(decisions["previous"].to_numpy(), others).mean())


def test_decisions_are_what_followed_on_something_heard() -> None:
    listens = [
        e._replace(track=n, propensity=0.1 if e.position else None)
        for n, e in enumerate(drawn(9, np.random.default_rng(1)))
    ]
    decisions = logged_decisions(listens_frame(reversed(listens)))
    recommended = [e for e in listens if e.position]
    assert sorted(decisions["track"]) == [e.track for e in recommended]
    assert (decisions["track"] - decisions["previous"] == 1).all()
    assert decisions["reward"].sum() == pytest.approx(sum(e.fraction for e in recommended))


def test_what_followed_on_a_listen_that_is_missing_says_nothing() -> None:
    listens = [listen("r-1-0"), listen("r-1-0", 2), listen("r-2-0", 1), listen("r-3-0", 1, propensity=None)]
    assert logged_decisions(listens_frame(listens)).empty


def test_probabilities_over_the_catalogue_add_up_to_one() -> None:
    rng = np.random.default_rng(2)
    lists = padded([rng.permutation(30)[:size] for size in (0, 1, 5, 30)])
    every = np.array([probability(lists, np.full(4, track), otherwise=1 / 30) for track in range(30)])
    assert every.sum(axis=0) == pytest.approx(np.ones(4))
    worth = rng.random(30)
    means = mean_over_list(lists, np.where(lists == NO_TRACK, 0.0, worth[lists]), worth.mean())
    assert means == pytest.approx(every.T @ worth)
