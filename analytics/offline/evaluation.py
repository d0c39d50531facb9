"""Off-policy estimates of a policy that draws evenly from a list, and what a policy earned by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analytics.offline.drawn import Lists, mean_over_list, probability
from analytics.offline.off_policy import Decisions, PolicyValue, doubly_robust, ips, snips
from analytics.offline.reward_model import RewardModel


class Evaluation(NamedTuple):
    """A policy's value by three estimators; that of SNIPS is NaN where the policy takes none of the decisions."""

    ips: PolicyValue
    snips: PolicyValue
    dr: PolicyValue


_NOTHING = PolicyValue(math.nan, math.nan, math.nan, 0.0)


def evaluate_drawn(decisions: pd.DataFrame, lists: Lists, tracks: int, model: RewardModel) -> Evaluation:
    """Estimate what a policy would have earned in logged situations.

    Parameters
    ----------
    decisions : DataFrame, length n
        As `analytics.offline.drawn.logged_decisions`.
    lists : ndarray of int64, shape (n, k)
        What the policy would have drawn from; from the whole catalogue where a list is empty.
    tracks : int
        How many the catalogue has.
    model : RewardModel
        Fitted on other decisions.

    Raises
    ------
    AnalyticsError
        There are no decisions.
    """
    target = probability(lists, decisions["track"], otherwise=1 / tracks)
    log = _log(decisions, target)
    previous, track = decisions["previous"].to_numpy(), decisions["track"].to_numpy()
    predicted = model.predict(previous, track[:, None])[:, 0]
    under_target = mean_over_list(lists, model.predict(previous, lists), float(model.quality.mean()))
    return Evaluation(ips(log), snips(log) if target.any() else _NOTHING, doubly_robust(log, predicted, under_target))


def earned(decisions: pd.DataFrame) -> PolicyValue:
    """Return the mean reward of a policy's own decisions, with its interval over users."""
    return ips(_log(decisions, decisions["propensity"].to_numpy()))


def _log(decisions: pd.DataFrame, target: np.ndarray[tuple[int], np.dtype[np.float64]]) -> Decisions:
    rewards, propensities = (decisions[name].to_numpy(np.float64) for name in ("reward", "propensity"))
    return Decisions(rewards, propensities, target, decisions["user"].to_numpy(np.int64))
