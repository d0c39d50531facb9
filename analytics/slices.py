"""Where an effect is, and whether it lasts: by segment of listeners, and over each listener's sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import pandas as pd

from botify.analytics.assignment import Assignment, sessions_in
from botify.core.welch import Difference, Sample, welch

Segmentation = Literal["returning", "genre"]
FEWEST = 100
"""Listeners of a segment that is shown."""


def returning(users: pd.DataFrame, before: pd.DataFrame) -> pd.Series[str]:
    """Return for each user whether they had sessions before they took part: `returning` or `new`.

    `users`, `before`: as `botify.analytics.assignment.user_metrics` and `metrics_before`, indexed by user.

    Examples
    --------
    >>> returning(pd.DataFrame(index=[1, 2]), pd.DataFrame(index=[2])).to_dict()
    {1: 'new', 2: 'returning'}
    """
    known = users.index.isin(before.index)
    return pd.Series(known, index=users.index).map({True: "returning", False: "new"})


def favourite_genres(listens: pd.DataFrame, genre_of: Mapping[int, str | None]) -> pd.Series[str]:
    """Return each user's genre: the most frequent one of the tracks that they chose themselves.

    Recommended tracks do not count, because they follow from the treatment.

    Examples
    --------
    >>> listens = pd.DataFrame({"user": [1, 1, 1, 2], "track": [7, 7, 8, 9], "recommender": [None, None, None, "mix"]})
    >>> favourite_genres(listens, {7: "rock", 8: "pop", 9: "pop"}).to_dict()
    {1: 'rock'}
    """
    chosen = listens[listens["recommender"].isna()]
    genres = chosen["track"].map(genre_of).dropna()
    return genres.groupby(chosen["user"].loc[genres.index]).agg(lambda names: names.mode().iloc[0])


def by_segment(users: pd.DataFrame, segment_of: pd.Series[str]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the segments with at least `FEWEST` users, the largest first, each with its users.

    Each further segment is another chance of a false finding: read them as questions, not as results.

    `users`: indexed by user.
    `segment_of`: indexed by user.
    """
    segments = segment_of.reindex(users.index)
    for name, count in segments.value_counts().items():
        if count >= FEWEST:
            yield str(name), users[segments == name]


def novelty(sessions: pd.DataFrame, assignment: Assignment, control: str, treatment: str) -> Difference:
    """Compare how the time of a session changes within users: the later half of their sessions less the earlier half.

    A difference opposite to the effect says that it shrinks as users get used to the treatment; one look, Welch.

    The difference is of the change in mean time per session, treatment minus control. NaN but for the estimate with too
    few users that have two sessions.
    """
    within = sessions_in(sessions, assignment).sort_values(["user", "started_ms"])
    of_user = within.groupby("user")
    is_late = of_user.cumcount() >= of_user["time"].transform("size") / 2
    halves = within.groupby(["user", is_late])["time"].mean().unstack()
    change = (halves[True] - halves[False]).dropna() if len(halves.columns) == 2 else pd.Series(dtype=float)
    arm = assignment.users["treatment"].reindex(change.index)
    return welch(Sample.of(change[arm == control]), Sample.of(change[arm == treatment]))
