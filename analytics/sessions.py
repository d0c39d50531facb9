"""Sessions of listens: their metrics, retention and curves."""

from collections.abc import Sequence

import numpy as np
import pandas as pd


def sessions_of(listens: pd.DataFrame) -> pd.DataFrame:
    """Add up each session's listens.

    The result has a row for each session: user, session_id, started_ms, ended_ms, tracks, time (sum of fractions),
    ended (whether its end was seen), requests (number of timed answers) and latency_ms (their sum).

    A session whose end was not seen, because it continues or an answer was lost, counts too. Dropping it would bias the
    comparison: long sessions are cut off by the end of the data more often, and a recommender that loses answers would
    be judged without them.
    """
    by_session = listens.groupby(["user", "session_id"], observed=True, sort=False)
    return by_session.agg(
        started_ms=("timestamp_ms", "min"),
        ended_ms=("timestamp_ms", "max"),
        tracks=("fraction", "size"),
        time=("fraction", "sum"),
        ended=("ended_session", "max"),
        requests=("latency_ms", "count"),
        latency_ms=("latency_ms", "sum"),
    ).reset_index()


DAY_MS = 24 * 60 * 60 * 1000


def retention(sessions: pd.DataFrame, days: Sequence[int] = (1, 7, 28)) -> pd.DataFrame:
    """Say whether users came back on a day after their first session, 24·d to 24·(d + 1) hours later.

    `sessions` begin with the users' first day. The result is indexed by user, a column `retention_day_<d>` for each
    day: 1.0 came back, 0.0 did not, NaN if the data ends before the day does.
    """
    first_ms = sessions.groupby("user")["started_ms"].min()
    day = (sessions["started_ms"] - sessions["user"].map(first_ms)) // DAY_MS
    data_ends_ms = sessions["ended_ms"].max()
    columns = {}
    for d in days:
        came_back = first_ms.index.isin(sessions["user"][day == d].unique())
        over = first_ms + (d + 1) * DAY_MS <= data_ends_ms
        columns[f"retention_day_{d}"] = np.where(over, came_back.astype(np.float64), np.nan)
    return pd.DataFrame(columns, index=first_ms.index)


MOST_TRACKS = 40  # end of a curve: few sessions are longer, so the rest is noise


def still_listening(sessions: pd.DataFrame, by: str = "treatment", most: int = MOST_TRACKS) -> pd.DataFrame:
    """Estimate the share of sessions that continue after k tracks, 0 to `most`; a column for each group.

    A session whose end was not seen counts as censored: the product-limit estimator of Kaplan and Meier (JASA 53,
    1958), S(k) = Π_{j ≤ k} (1 − ended at j / reached j); NaN after the longest session.
    """
    curves = {}
    for name, group in sessions.groupby(by, observed=True):
        length = np.minimum(group["tracks"].to_numpy(), most + 1)
        of_length = np.bincount(length, minlength=most + 2)
        ended = np.bincount(length[group["ended"].to_numpy(dtype=bool)], minlength=most + 2)
        reached = np.cumsum(of_length[::-1])[::-1]
        with np.errstate(invalid="ignore"):
            curves[str(name)] = np.cumprod(1.0 - ended / reached)[: most + 1]
    return pd.DataFrame(curves, index=pd.RangeIndex(most + 1, name="tracks"))


def fraction_by_position(listens: pd.DataFrame, by: str = "treatment", most: int = MOST_TRACKS) -> pd.DataFrame:
    """Average the fraction heard at each position of a session, without the first, which the listener chose, by group.

    Listeners who hear little leave, so later positions represent satisfied listeners.
    """
    recommended = listens[listens["position"].between(1, most)]
    means = recommended.groupby([by, "position"], observed=True)["fraction"].mean().unstack(by)
    return means.rename(columns=str).rename_axis(columns=None)
