"""What treatments and metrics are called where people read of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from analytics.assignment import assign
from analytics.experiment import Effect

METRIC_WORDS: Mapping[str, str] = {
    "mean_time_per_session": "time per session",
    "mean_tracks_per_session": "tracks per session",
    "time": "time in all",
    "sessions": "sessions",
    "mean_request_latency": "request latency, ms",
}
"""The metrics of `analytics.metrics`, in words."""


def recommender_of_arm(listens: pd.DataFrame, experiment: str) -> dict[str, str]:
    """Return which recommender answered most in each treatment, to call a treatment by what it is.

    Examples
    --------
    >>> from analytics.frames import listens_frame
    >>> from schemas.events import Listen
    >>> listen = Listen("a-1", 7, 1, 1.0, 0, "a", 1, False, "random", {"demo": "C"}, 0.1, 2.0)
    >>> recommender_of_arm(listens_frame([listen]), "demo")
    {'C': 'random'}
    """
    users = assign(listens, experiment).users["treatment"]
    answered = listens[["user", "recommender"]].dropna().join(users, on="user", how="inner")
    most = answered.groupby("treatment", observed=True)["recommender"].agg(lambda names: names.mode().iloc[0])
    return {str(treatment): str(recommender) for treatment, recommender in most.items()}


def arm_name(treatment: str, recommenders: Mapping[str, str]) -> str:
    """Return what a treatment is called.

    Examples
    --------
    >>> arm_name("T1", {"T1": "sticky_artist"}), arm_name("T2", {})
    ('T1 sticky_artist', 'T2')
    """
    return f"{treatment} {recommenders[treatment]}" if treatment in recommenders else treatment


def effect_rows(
    effects: Iterable[Effect], recommenders: Mapping[str, str], metrics: Collection[str] = METRIC_WORDS.keys()
) -> pd.DataFrame:
    """Return effects as `analytics.plots.forest.forest_plot` wants them.

    Parameters
    ----------
    effects : iterable of Effect
    recommenders : mapping of treatment to recommender
    metrics : collection of str
        Which to show; with a single one, rows are called by the treatment alone.
    """
    shown = [effect for effect in effects if effect.metric in metrics]
    return pd.DataFrame(
        [(effect.effect, effect.lower, effect.upper) for effect in shown],
        columns=["estimate", "lower", "upper"],
        index=[
            arm_name(effect.treatment, recommenders)
            + ("" if len(metrics) == 1 else f" · {METRIC_WORDS.get(effect.metric, effect.metric)}")
            for effect in shown
        ],
    )
