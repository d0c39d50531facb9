"""Section: how long sessions last, and how well they go."""

from __future__ import annotations

import numpy as np
import pandas as pd

from analytics.arms import arm_name, recommender_of_arm
from analytics.assignment import assign
from analytics.experiment import CONTROL
from analytics.plots.lines import line_chart
from analytics.popularity import popularity_over_time
from analytics.report.data import ReportData
from analytics.report.html import Row, Section, paragraph, picture, table
from analytics.sessions import fraction_by_position, sessions_of, still_listening

_REACHED = 0.02
"""The curves end where so few sessions, in every arm, are left: what comes later is noise."""


def session_section(listens: pd.DataFrame, experiment: str | None) -> Section:
    """Show session curves, apart for the arms of an experiment where there is one."""
    sessions = sessions_of(listens)
    arm_of, control = _arms(listens, experiment)
    curves = still_listening(sessions.assign(arm=sessions["user"].map(arm_of)), by="arm")
    last = max(int((curves.max(axis=1) >= _REACHED).sum()), 1)
    heard = fraction_by_position(listens.assign(arm=listens["user"].map(arm_of)), by="arm", most=last)
    body = picture(
        line_chart(
            curves.iloc[: last + 1],
            "How long sessions last",
            "share of sessions that continue after this number of tracks (Kaplan–Meier)",
            "tracks heard",
            "still listening",
            control=control,
            percent=True,
        ),
        "still-listening",
        "share of sessions that continue, by number of tracks",
    ) + picture(
        line_chart(
            heard,
            "How much of a recommended track is heard",
            "mean fraction at each position, over those who are still there",
            "position in the session",
            "fraction heard",
            control=control,
            percent=True,
        ),
        "heard",
        "mean fraction heard, by position",
    )
    unseen = 1 - float(sessions["ended"].mean())
    if unseen:
        body += paragraph(f"The end of {unseen:.1%} of the sessions was not seen; they count for as long as they were.")
    return Section("Sessions", _finding_on_sessions(sessions), body)


def _arms(listens: pd.DataFrame, experiment: str | None) -> tuple[pd.Series, str | None]:
    """Return each user's arm by the name of its recommender, and the control's name."""
    if experiment is None:
        return pd.Series("all", index=listens["user"].unique()), None
    treatments = assign(listens, experiment).users["treatment"].astype(str)
    recommenders = recommender_of_arm(listens, experiment)
    return treatments.map(lambda arm: arm_name(arm, recommenders)), arm_name(CONTROL, recommenders)


def _finding_on_sessions(sessions: pd.DataFrame) -> str:
    tracks, time = sessions["tracks"], sessions["time"]
    return (
        f"{len(sessions):,} sessions of {sessions['user'].nunique():,} listeners: "
        f"{tracks.mean():.2f} tracks and {time.mean():.2f} of listening time each; "
        f"the longest tenth last for {tracks.quantile(0.9):.0f} tracks or more."
    )


_MINUTE_MS, _HOUR_MS, _DAY_MS = 60_000, 3_600_000, 86_400_000
_HALF_LIVES_MS = {
    "10 minutes": 10 * _MINUTE_MS,
    "1 hour": _HOUR_MS,
    "6 hours": 6 * _HOUR_MS,
    "1 day": _DAY_MS,
    "1 week": 7 * _DAY_MS,
}
_MOMENTS = 200
_SHOWN = 8
_LONGEST_TITLE = 34


def popularity_section(data: ReportData) -> Section:
    """Show the tracks that were the most popular at any time, with a half-life that fits the time spanned."""
    listens = data.listens
    first_ms, last_ms = (int(listens["timestamp_ms"].agg(end)) for end in ("min", "max"))
    name, half_life_ms = fitting_half_life(last_ms - first_ms)
    # the first half-life only shows the sums filling up
    moments = np.linspace(min(first_ms + half_life_ms, last_ms), last_ms, _MOMENTS).astype(np.int64)
    popularity = popularity_over_time(listens, half_life_ms, np.unique(moments), _most_heard(listens))
    top = popularity.max().nlargest(_SHOWN).index
    shown = popularity[top[np.argsort(-popularity[top].iloc[-1].to_numpy(), kind="stable")]]
    titles = {track: _short(data.title_of(int(track))) for track in shown.columns}
    body = picture(
        line_chart(
            shown.rename(columns=titles),
            "Popularity over time",
            f"sum of the fractions heard, each halved every {name}; the tracks with the highest peaks",
            "event time (UTC)",
            "decayed listens",
        ),
        "popularity",
        "popularity of the most popular tracks over event time",
    )
    return Section("Popularity", _finding(listens, data), body + _table(listens, data) + paragraph(_NOTE))


def fitting_half_life(span_ms: int) -> tuple[str, int]:
    """Return the longest of our half-lives that passes eight times in a span, else the shortest.

    Examples
    --------
    >>> fitting_half_life(14 * 24 * 60 * 60 * 1000)[0]
    '1 day'
    """
    fitting = [(name, ms) for name, ms in _HALF_LIVES_MS.items() if 8 * ms <= span_ms]
    return fitting[-1] if fitting else next(iter(_HALF_LIVES_MS.items()))


_NOTE = (
    "A track counts by the fraction that was heard, so a track that is skipped is not popular for being recommended."
)
_CANDIDATES = 500
_LISTED = 10


def _most_heard(listens: pd.DataFrame) -> list[int]:
    """Return the tracks heard most in all or in any tenth of the time: what peaks at some time is among them."""
    tenth = pd.qcut(listens["timestamp_ms"].rank(method="first"), 10, labels=False)
    sums = listens.groupby([tenth, "track"])["fraction"].sum()
    best = sums.groupby(level=0, group_keys=False).nlargest(_CANDIDATES // 10)
    return sorted({int(track) for track in best.index.get_level_values("track")})


def _table(listens: pd.DataFrame, data: ReportData) -> str:
    heard = listens.groupby("track").agg(
        listens=("fraction", "size"), time=("fraction", "sum"), fraction=("fraction", "mean")
    )
    rows = (
        [
            Row([data.title_of(int(track)), f"{row.listens:,}", f"{row.time:,.1f}", f"{row.fraction:.0%}"])
            for track, row in zip(best.index, best.itertuples(), strict=True)
        ]
        if len(best := heard.nlargest(_LISTED, "time"))
        else []
    )
    return table(["track", "listens", "time", "heard of it"], rows)


def _finding(listens: pd.DataFrame, data: ReportData) -> str:
    time = listens.groupby("track")["fraction"].sum().sort_values(ascending=False)
    share = float(time.iloc[: max(1, len(time) // 100)].sum() / time.sum())
    return (
        f"{len(time):,} different tracks were heard; the most popular is {data.title_of(int(time.index[0]))}, and the "
        f"top 1 % of the tracks make {share:.1%} of the listening time."
    )


def _short(title: str) -> str:
    return title if len(title) <= _LONGEST_TITLE else title[: _LONGEST_TITLE - 1] + "…"
