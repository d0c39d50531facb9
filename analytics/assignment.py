"""The users of an experiment: their treatments, metrics and segments, and whether an effect lasts."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from botify.analytics import AnalyticsError
from botify.core.goals import BETTER
from botify.core.welch import Difference, Sample, welch


class Assignment(NamedTuple):
    """The users of an experiment."""

    # indexed by user: `treatment` (categorical) and `since_ms`, the time of the first listen that carried it
    users: pd.DataFrame
    until_ms: int  # time of the last listen of all that carried a treatment of this experiment
    mixed: int  # number of users seen in more than one treatment, who are left out


def assign(listens: pd.DataFrame, experiment: str) -> Assignment:
    """Find each user's treatment: that of any listen that has one; users without such a listen are left out.

    A session's first listen was not recommended and carries none. Raises `AnalyticsError` if no listen carries one.
    """
    # selected listens keep the categories of all listens
    texts = listens["treatments"].cat.remove_unused_categories().cat
    declared = [json.loads(text) for text in texts.categories]
    names = sorted({treatments[experiment] for treatments in declared if experiment in treatments})
    if not names:
        raise unknown_experiment(experiment, {name for treatments in declared for name in treatments})
    code_of_text = [names.index(one[experiment]) if experiment in one else -1 for one in declared]
    codes = np.array(code_of_text)[texts.codes]
    of_user = listens[["user", "timestamp_ms"]].assign(code=codes)[codes >= 0].groupby("user")
    codes_of = {"lowest": ("code", "min"), "highest": ("code", "max")}
    times_of = {"since_ms": ("timestamp_ms", "min"), "until_ms": ("timestamp_ms", "max")}
    return assignment_of(of_user.agg(**codes_of, **times_of), names)


def assignment_of(seen: pd.DataFrame, treatments: Sequence[str]) -> Assignment:
    """Assign users from a summary of each one's listens, indexed by user.

    `lowest` and `highest` are the positions in `treatments` of the user's first and last treatment in order; `since_ms`
    and `until_ms` the times of the first and last treated listen.
    """
    pure = seen[seen["lowest"] == seen["highest"]]
    treatment = pd.Categorical.from_codes(pure["lowest"].to_numpy(), categories=pd.Index(treatments))
    users = pd.DataFrame({"treatment": treatment, "since_ms": pure["since_ms"]}, index=pure.index)
    return Assignment(users, int(seen["until_ms"].max()), mixed=len(seen) - len(pure))


def unknown_experiment(experiment: str, known: Collection[str]) -> AnalyticsError:
    """Return the error for an experiment without listens."""
    there = f"the data has {', '.join(sorted(known))}" if known else "the data has no experiments"
    return AnalyticsError(f"no listen carries a treatment of experiment {experiment!r}; {there}")


METRICS = tuple(BETTER)  # Botify's metrics, by its names


def user_metrics(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Compute Botify's metrics of each user in an experiment, from the sessions that count (`sessions_in`).

    The result is indexed by user: `treatment` and `METRICS`. `time` is the sum of fractions heard,
    `mean_request_latency` in ms over the user's requests (NaN if no answer was timed).
    """
    return assignment.users[["treatment"]].join(per_user(sessions_in(sessions, assignment)), how="inner")


def sessions_in(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Keep a user's sessions from the first one with a treatment until the experiment's last treated listen.

    Sessions without a treatment in between count too, because coming back is part of the effect.
    """
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    return taking_part[
        (taking_part["ended_ms"] >= taking_part["since_ms"]) & (taking_part["started_ms"] <= assignment.until_ms)
    ]


def metrics_before(sessions: pd.DataFrame, assignment: Assignment) -> pd.DataFrame:
    """Compute `METRICS` by user from the sessions before each took part, as covariates of CUPED, without new users."""
    taking_part = sessions.join(assignment.users["since_ms"], on="user", how="inner")
    return per_user(taking_part[taking_part["ended_ms"] < taking_part["since_ms"]])


def per_user(sessions: pd.DataFrame) -> pd.DataFrame:
    """Compute `METRICS` of each user from all sessions, indexed by user."""
    # a join that finds nothing names the index after the user, too
    of_user = sessions.reset_index(drop=True).groupby("user")
    totals = of_user[["time", "tracks", "requests", "latency_ms"]].sum().assign(sessions=of_user.size())
    return totals.assign(
        mean_time_per_session=totals["time"] / totals["sessions"],
        mean_tracks_per_session=totals["tracks"] / totals["sessions"],
        mean_request_latency=totals["latency_ms"] / totals["requests"].where(totals["requests"] > 0),
    )[list(METRICS)]


FEWEST = 100  # listeners of a segment that is shown


def returning(users: pd.DataFrame, before: pd.DataFrame) -> "pd.Series[str]":
    """Return for each user whether they had sessions before they took part: `returning` or `new`."""
    known = users.index.isin(before.index)
    return pd.Series(known, index=users.index).map({True: "returning", False: "new"})


def favourite_genres(listens: pd.DataFrame, genre_of: Mapping[int, str | None]) -> "pd.Series[str]":
    """Return each user's genre: the most frequent one of the tracks that they chose themselves.

    Examples
    --------
    >>> listens = pd.DataFrame({"user": [1, 1, 1, 2], "track": [7, 7, 8, 9], "recommender": [None] * 3 + ["rerank"]})
    >>> favourite_genres(listens, {7: "rock", 8: "pop", 9: "pop"}).to_dict()
    {1: 'rock'}
    """
    chosen = listens[listens["recommender"].isna()]
    genres = chosen["track"].map(genre_of).dropna()
    return genres.groupby(chosen["user"].loc[genres.index]).agg(lambda names: names.mode().iloc[0])


def by_segment(users: pd.DataFrame, segment_of: "pd.Series[str]") -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the segments with at least `FEWEST` users, the largest first; each is a chance of a false finding."""
    segments = segment_of.reindex(users.index)
    for name, count in segments.value_counts().items():
        if count >= FEWEST:
            yield str(name), users[segments == name]


def novelty(sessions: pd.DataFrame, assignment: Assignment, control: str, treatment: str) -> Difference:
    """Compare how the time of a session changes within users: the later half of their sessions less the earlier half.

    Treatment minus control, by Welch at one look. A difference opposite to the effect says that it shrinks as users get
    used to the treatment. NaN but for the estimate with too few users that have two sessions.
    """
    within = sessions_in(sessions, assignment).sort_values(["user", "started_ms"])
    of_user = within.groupby("user")
    is_late = of_user.cumcount() >= of_user["time"].transform("size") / 2
    halves = within.groupby(["user", is_late])["time"].mean().unstack()
    change = (halves[True] - halves[False]).dropna() if len(halves.columns) == 2 else pd.Series(dtype=float)
    arm = assignment.users["treatment"].reindex(change.index)
    return welch(Sample.of(change[arm == control]), Sample.of(change[arm == treatment]))
