"""Section: how long sessions last, and how well they go."""

from __future__ import annotations

import pandas as pd

from analytics.arms import arm_name, recommender_of_arm
from analytics.assignment import assign
from analytics.curves import fraction_by_position, still_listening
from analytics.experiment import CONTROL
from analytics.plots.lines import line_chart
from analytics.report.html import Section, paragraph, picture
from analytics.sessions import sessions_of

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
            "share of sessions that go on after so many tracks (Kaplan–Meier)",
            "tracks heard",
            "still listening",
            control=control,
            percent=True,
        ),
        "still-listening",
        "share of sessions that go on, by number of tracks",
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
    return Section("Sessions", _finding(sessions), body)


def _arms(listens: pd.DataFrame, experiment: str | None) -> tuple[pd.Series, str | None]:
    """Return each user's arm by the name of its recommender, and the control's name."""
    if experiment is None:
        return pd.Series("all", index=listens["user"].unique()), None
    treatments = assign(listens, experiment).users["treatment"].astype(str)
    recommenders = recommender_of_arm(listens, experiment)
    return treatments.map(lambda arm: arm_name(arm, recommenders)), arm_name(CONTROL, recommenders)


def _finding(sessions: pd.DataFrame) -> str:
    tracks, time = sessions["tracks"], sessions["time"]
    return (
        f"{len(sessions):,} sessions of {sessions['user'].nunique():,} listeners: "
        f"{tracks.mean():.2f} tracks and {time.mean():.2f} of listening time each; "
        f"the longest tenth goes on for {tracks.quantile(0.9):.0f} tracks or more."
    )
