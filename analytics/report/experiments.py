"""Section: what each experiment showed."""

from __future__ import annotations

import json
import math

import pandas as pd
from matplotlib.figure import Figure

from analytics.assignment import assign
from analytics.errors import AnalyticsError
from analytics.experiment import Effect, ExperimentResults, experiment_results
from analytics.plots.forest import forest_plot
from analytics.report.html import Html, Row, Section, paragraph, picture, table

MAIN_METRIC = "mean_time_per_session"
"""What the finding speaks of: how long listeners are kept once they are there."""
_MISMATCH = (
    "Sample-ratio mismatch: unless the experiment declares unequal shares, its split is broken, and nothing below can "
    "be believed."
)
_WORDS = {
    "mean_time_per_session": "time per session",
    "mean_tracks_per_session": "tracks per session",
    "time": "time in all",
    "sessions": "sessions",
    "mean_request_latency": "request latency, ms",
}


def experiments_of(listens: pd.DataFrame) -> list[str]:
    """Return the names of the experiments that listens carry.

    Examples
    --------
    >>> experiments_of(pd.DataFrame({"treatments": pd.Categorical(['{}', '{"b": "C", "a": "T1"}'])}))
    ['a', 'b']
    """
    return sorted({name for text in listens["treatments"].unique() for name in json.loads(text)})


def experiment_section(listens: pd.DataFrame, name: str) -> Section:
    """Tell what an experiment showed: the finding, the table, the intervals."""
    heading = f"Experiment {name}"
    try:
        results = experiment_results(listens, name)
    except AnalyticsError as error:  # one treatment only, or no control: say so, and go on with the page
        return Section(heading, f"There is nothing to compare: {error}", "")
    arms = recommender_of_arm(listens, name)
    body = _warnings(results) + _table(results, arms) + picture(_forest(results, arms), name, f"effects in {name}")
    return Section(heading, _finding(results, arms), body)


def recommender_of_arm(listens: pd.DataFrame, name: str) -> dict[str, str]:
    """Return which recommender answered most in each treatment, to call a treatment by what it is."""
    users = assign(listens, name).users["treatment"]
    answered = listens[["user", "recommender"]].dropna().join(users, on="user", how="inner")
    counts = answered.groupby("treatment", observed=True)["recommender"].agg(lambda names: names.mode().iloc[0])
    return {str(treatment): str(recommender) for treatment, recommender in counts.items()}


def _finding(results: ExperimentResults, arms: dict[str, str]) -> str:
    main = sorted((effect for effect in results.effects if effect.metric == MAIN_METRIC), key=lambda e: -e.effect)
    return " ".join(_sentence(effect, results, arms) for effect in main)


def _sentence(effect: Effect, results: ExperimentResults, arms: dict[str, str]) -> str:
    arm, control = _called(effect.treatment, arms), _called(results.control, arms)
    interval = f"95 % interval {_percent(effect.lower)} to {_percent(effect.upper)}"
    if not effect.significant:
        return f"{arm} cannot be told from {control} in time per session ({interval})."
    more = "longer" if effect.effect > 0 else "shorter"
    many = "" if effect.p_holm < 0.05 else ", though not when corrected for the number of comparisons"
    return f"{arm} keeps listeners {abs(effect.effect):.1f} % {more} per session than {control} ({interval}{many})."


def _called(treatment: str, arms: dict[str, str]) -> str:
    return f"{treatment} ({arms[treatment]})" if treatment in arms else treatment


def _warnings(results: ExperimentResults) -> Html:
    ratio = results.ratio
    split = ", ".join(f"{users:,} in {name}" for name, users in ratio.observed.items())
    lines = [
        paragraph(
            f"Listeners: {split}. With equal shares, chance splits them so unevenly with p = {ratio.p_value:.2g}."
        )
    ]
    if ratio.mismatch:
        lines.insert(0, paragraph(_MISMATCH, "alarm"))
    if results.mixed:
        lines.append(paragraph(f"{results.mixed:,} listeners seen in several treatments are left out."))
    return "".join(lines)


def _table(results: ExperimentResults, arms: dict[str, str]) -> Html:
    headings = ["treatment", "metric", "control", "treated", "effect %", "95 % interval", "p (Holm)"]
    rows = [
        Row(
            [
                _called(effect.treatment, arms),
                _WORDS.get(effect.metric, effect.metric),
                f"{effect.control_mean:,.3f}",
                f"{effect.treatment_mean:,.3f}",
                _percent(effect.effect),
                f"{_percent(effect.lower)} … {_percent(effect.upper)}",
                "< 0.001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}",
            ],
            ("up" if effect.effect > 0 else "down") if effect.significant else "",
        )
        for effect in results.effects
    ]
    return table(headings, rows, texts=2)


def _forest(results: ExperimentResults, arms: dict[str, str]) -> Figure:
    rows = pd.DataFrame(
        [(effect.effect, effect.lower, effect.upper) for effect in results.effects],
        columns=["estimate", "lower", "upper"],
        index=[
            f"{arms.get(effect.treatment, effect.treatment)} · {_WORDS.get(effect.metric, effect.metric)}"
            for effect in results.effects
        ],
    )
    control = _called(results.control, arms)
    return forest_plot(
        rows, f"Effects against {control}", "estimate and 95 % interval (Welch, over users)", "effect, %"
    )


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"
