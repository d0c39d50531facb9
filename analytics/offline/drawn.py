"""Policies that draw evenly from a list: what they would have done where another policy was asked.

Popular tracks, an artist's, a track's neighbours, a listener's own list: whatever makes the list, the policy's
probability of any track follows from it, and with it the weight that a logged decision has.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from analytics.offline.ranking import NO_TRACK

Floats = NDArray[np.float64]
Lists = NDArray[np.int64]
"""(decisions, k): the tracks that each decision is drawn from; `NO_TRACK` where a list ends early."""


def logged_decisions(listens: pd.DataFrame) -> pd.DataFrame:
    """Return the recommendations that listens followed, each with what was heard before it.

    Parameters
    ----------
    listens : DataFrame
        As `analytics.frames.listens_frame`, without copies.

    Returns
    -------
    DataFrame
        One row a recommendation whose propensity was logged: user, session_id, position, timestamp_ms, previous (the
        track heard before), track, reward (the fraction heard) and propensity.

    Examples
    --------
    >>> from analytics.frames import listens_frame
    >>> from schemas.events import Listen
    >>> first = Listen("a-0", 7, 5, 1.0, 0, "a", 0, False, None, {}, None, None)
    >>> second = Listen("a-1", 7, 6, 0.5, 9, "a", 1, True, "random", {}, 0.1, 2.0)
    >>> logged_decisions(listens_frame([second, first]))[["previous", "track", "reward"]].to_dict("list")
    {'previous': [5], 'track': [6], 'reward': [0.5]}
    """
    ordered = listens.sort_values(["user", "session_id", "position"], kind="stable", ignore_index=True)
    before = ordered.shift(1)
    follows = (
        (before["user"] == ordered["user"])
        & (before["session_id"] == ordered["session_id"])
        & (before["position"] + 1 == ordered["position"])
    )
    decided = ordered[follows & ordered["propensity"].notna()]
    return pd.DataFrame(
        {
            **{name: decided[name] for name in ("user", "session_id", "position", "timestamp_ms")},
            "previous": before["track"][decided.index].astype(np.int64),
            "track": decided["track"],
            "reward": decided["fraction"],
            "propensity": decided["propensity"],
        }
    ).reset_index(drop=True)


def probability(lists: Lists, tracks: ArrayLike, otherwise: float) -> Floats:
    """Return the probability with which each track is drawn from its list.

    Parameters
    ----------
    lists : ndarray of int64, shape (n, k)
        No track twice in a row.
    tracks : array_like of int, shape (n,)
    otherwise : float
        Where a list is empty: what the policy's fallback gives every track.

    Examples
    --------
    >>> probability(np.array([[5, 6], [5, -1], [-1, -1]]), [6, 6, 6], otherwise=0.01).tolist()
    [0.5, 0.0, 0.01]
    """
    sizes = (lists != NO_TRACK).sum(axis=1)
    hits = (lists == np.asarray(tracks)[:, None]).any(axis=1)
    return np.where(sizes > 0, hits / np.maximum(sizes, 1), otherwise)


def mean_over_list(lists: Lists, values: Floats, otherwise: ArrayLike) -> Floats:
    """Return the mean of a value over what each decision is drawn from: a reward model's, under the policy.

    Parameters
    ----------
    lists : ndarray of int64, shape (n, k)
    values : ndarray of float64, shape (n, k)
        Of each track of each list; those of `NO_TRACK` are left out.
    otherwise : array_like of float, shape (n,) or a number
        Where a list is empty.

    Examples
    --------
    >>> lists, values = np.array([[5, 6], [5, -1], [-1, -1]]), np.array([[1.0, 0.0], [0.5, 9.0], [9.0, 9.0]])
    >>> mean_over_list(lists, values, otherwise=0.2).tolist()
    [0.5, 0.5, 0.2]
    """
    present = lists != NO_TRACK
    sizes = present.sum(axis=1)
    sums = np.where(present, values, 0.0).sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), otherwise)


def padded(groups: list[NDArray[np.int64]]) -> Lists:
    """Put lists of different lengths into one array.

    Examples
    --------
    >>> padded([np.array([5]), np.array([], dtype=np.int64), np.array([6, 7])]).tolist()
    [[5, -1], [-1, -1], [6, 7]]
    """
    lists = np.full((len(groups), max((len(group) for group in groups), default=0)), NO_TRACK, dtype=np.int64)
    for row, group in enumerate(groups):
        lists[row, : len(group)] = group
    return lists
