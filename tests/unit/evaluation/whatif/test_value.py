"""Values from logs whose truth is known."""

import numpy as np
import pytest

from botify.analytics import AnalyticsError
from botify.analytics.offline.off_policy import CLIPS, Decisions, doubly_robust_clipped
from botify.evaluation.whatif.answers import Row
from botify.evaluation.whatif.value import value_of
from botify.schemas.events import Track
from botify.services.recommender.catalogue import Catalogue

TRACKS = 40
CATALOGUE = Catalogue([Track(track, f"artist {track // 4}", None, None, "x") for track in range(TRACKS)])
WORTH = np.random.default_rng(3).random(TRACKS) * 0.8
CHOICE = 8  # tracks that a policy may answer in a situation


def test_by_hand() -> None:
    """Two tracks; what served takes each with 1/2, the other one always the first: weights 2 and 0."""
    rewards, targets = np.array([1.0, 0.0, 0.5, 0.0]), np.array([1.0, 0.0, 1.0, 0.0])
    log = Decisions(rewards, np.full(4, 0.5), targets)
    predicted, instead = np.array([0.5, 0.2, 0.5, 0.2]), np.full(4, 0.5)
    made = doubly_robust_clipped(log, predicted, instead, np.full(4, 2.0))
    assert made.clip is None
    assert (made.value.value, made.lost) == (pytest.approx(0.5 + 2 * (0.5 + 0.0) / 4), 0.0)
    assert made.difference.value == pytest.approx(0.75 - 1.5 / 4)
    impossible = doubly_robust_clipped(log, predicted, instead, np.array([2.0, 2.0, 2.0, np.inf]))
    assert impossible.lost == 0.25
    assert impossible.value.upper == pytest.approx(made.value.upper + 0.25 * 0.5)
    assert impossible.value.lower == pytest.approx(made.value.lower - 0.25 * 0.5)


def test_a_clip_is_chosen_where_it_costs_less_than_it_saves_and_its_cost_is_in_the_interval() -> None:
    """A thousandth of the target policy's decisions has a weight of 1,000; with luck, three of them are in the log."""
    rng = np.random.default_rng(1)
    n, share, rare = 4_000, 1e-3, 1e-6
    hit, drawn = np.arange(n) < 3, rng.random(n) < share
    log = Decisions(rng.random(n), np.where(hit, rare, 1 - rare), np.where(hit, share, 1 - share))
    ratios = np.where(drawn, share / rare, (1 - share) / (1 - rare))
    made = doubly_robust_clipped(log, np.full(n, 0.5), np.full(n, 0.5), ratios)
    assert made.clip in CLIPS
    assert made.lost == pytest.approx(drawn.mean() * (1 - made.clip / 1_000))
    assert made.value.lower <= 0.5 <= made.value.upper
    assert made.value.upper - made.value.lower < 0.05


def rows_of(rng: np.random.Generator, epsilon: float, listeners: int, beyond: float = 0.0) -> list[Row]:
    """A log of the policy that plays track 4 of 8 unless it explores, judged for the one that plays track 5.

    With probability `beyond` that one plays a track that is never explored.
    """
    rows, share = [], epsilon / CHOICE
    for user in range(listeners):
        mood = 0.2 * rng.random()
        for position in range(10):
            first = int(rng.integers(4)) * CHOICE
            track = first + (int(rng.integers(CHOICE)) if rng.random() < epsilon else 4)
            leaves = rng.random() < beyond
            other, support, chance = (33, 0.0, beyond) if leaves else (first + 5, share, 1 - beyond)
            target = (1 - beyond) * (track == first + 5)
            propensity = share + (1 - epsilon) * (track == first + 4)
            reward = float(rng.random() < WORTH[track] + mood)
            rows.append(Row(user, "s", position, 0, track, other, propensity, target, support, chance, reward))
    return rows


@pytest.mark.parametrize(("epsilon", "beyond"), [(0.5, 0.0), (0.2, 0.0), (0.5, 0.03)])
def test_intervals_cover_the_value(epsilon: float, beyond: float) -> None:
    covered = []
    truth = float(WORTH[[5, 13, 21, 29]].mean() + 0.1) * (1 - beyond) + beyond * (WORTH[33] + 0.1)
    for seed in range(100):
        value = value_of(rows_of(np.random.default_rng([7, seed]), epsilon, 600, beyond), CATALOGUE)
        assert value.cannot_tell is None
        covered.append(value.dr.value.lower <= truth <= value.dr.value.upper)
    assert np.mean(covered) >= 0.9
    if not beyond:  # whose interval holds all that listeners might make of what they never heard
        assert np.mean(covered) <= 0.99


def test_of_the_policy_itself_the_value_is_what_was_heard() -> None:
    rows = rows_of(np.random.default_rng(2), 0.2, 50)
    own = [row._replace(other=row.track, target=row.propensity, support=1.0, chance=1.0) for row in rows]
    value = value_of(own, CATALOGUE)
    assert value.snips is not None
    assert value.ips.value == value.served.value == value.snips.value
    assert value.dr.difference.value == pytest.approx(0.0, abs=1e-12)
    assert (value.effective, value.impossible, value.cannot_tell) == (pytest.approx(500), 0.0, None)
    assert value.percent == (pytest.approx(0.0, abs=1e-9),) * 3
    assert value.session_served == pytest.approx(10 * value.served.value)
    assert value.session is not None
    assert value.session.value == pytest.approx(value.session_served)


def test_what_the_log_cannot_tell_is_said() -> None:
    few = rows_of(np.random.default_rng(3), 0.02, 100)
    assert "50 are needed" in str(value_of(few, CATALOGUE).cannot_tell)
    unmatched = [row for row in few if row.target == 0]
    value = value_of(unmatched, CATALOGUE)
    assert value.snips is None
    assert value.session is None
    assert "50 are needed" in str(value.cannot_tell)
    beyond = rows_of(np.random.default_rng(4), 0.5, 300, beyond=0.3)
    assert "never gives" in str(value_of(beyond, CATALOGUE).cannot_tell)
    alone = [row._replace(user=0, other=row.track, target=row.propensity, support=1.0, chance=1.0) for row in few]
    assert value_of(alone, CATALOGUE).cannot_tell == "there is one listener only"
    with pytest.raises(AnalyticsError, match="wait until"):
        value_of([row._replace(reward=None) for row in few], CATALOGUE)


def test_a_session_counts_by_all_of_its_weights() -> None:
    """Of four sessions of two answers, drawn evenly, the other policy always answers track 1: one session in four."""
    sessions = [((1, 0.2), (1, 0.6)), ((1, 0.3), (2, 0.9)), ((2, 0.9), (1, 0.9)), ((2, 0.1), (2, 0.1))]
    rows = [
        Row(user, "s", position, 0, track, 1, 0.5, float(track == 1), 0.5, 1.0, reward)
        for user, answers in enumerate(sessions)
        for position, (track, reward) in enumerate(answers)
    ]  # fmt: skip
    value = value_of(rows, CATALOGUE)
    assert value.session is not None
    assert value.session.value == pytest.approx((0.2 + 0.3) / 2 + 0.6)
    assert value.session_served == pytest.approx((0.8 + 1.2 + 1.8 + 0.2) / 4)
    rest = value_of(rows[1:], CATALOGUE)
    assert rest.session_served == pytest.approx((1.2 + 1.8 + 0.2) / 3)
