"""Names of treatments and metrics in reports, and verdicts in words."""

import math
from collections.abc import Collection, Iterable, Mapping

import pandas as pd

from botify.analytics.assignment import assign
from botify.analytics.experiment import Effect, ExperimentResults

METRIC_WORDS: Mapping[str, str] = {
    "mean_time_per_session": "time per session",
    "mean_tracks_per_session": "tracks per session",
    "time": "time in all",
    "sessions": "sessions",
    "mean_request_latency": "request latency, ms",
}
"""The metrics of `botify.analytics.assignment`, in words."""


def recommender_of_arm(listens: pd.DataFrame, experiment: str) -> dict[str, str]:
    """Return the recommender that answered most in each treatment, for its name."""
    users = assign(listens, experiment).users["treatment"]
    answered = listens[["user", "recommender"]].dropna().join(users, on="user", how="inner")
    most = answered.groupby("treatment", observed=True)["recommender"].agg(lambda names: names.mode().iloc[0])
    return {str(treatment): str(recommender) for treatment, recommender in most.items()}


def arm_name(treatment: str, recommenders: Mapping[str, str]) -> str:
    """Return the name of a treatment in reports."""
    return f"{treatment} {recommenders[treatment]}" if treatment in recommenders else treatment


def effect_rows(
    effects: Iterable[Effect], recommenders: Mapping[str, str], metrics: Collection[str] = METRIC_WORDS.keys()
) -> pd.DataFrame:
    """Return effects as rows of `botify.analytics.charts.forest_plot`; a single metric does not name its rows."""
    shown = [effect for effect in effects if effect.metric in metrics]
    rows = [(effect.effect, effect.lower, effect.upper, effect.better) for effect in shown]
    names = [arm_name(effect.treatment, recommenders) for effect in shown]
    if len(metrics) > 1:
        words = [METRIC_WORDS.get(effect.metric, effect.metric) for effect in shown]
        names = [f"{name} · {word}" for name, word in zip(names, words, strict=True)]
    return pd.DataFrame(rows, names, ["estimate", "lower", "upper", "better"])


def effect_table(effects: Iterable[Effect], recommenders: Mapping[str, str]) -> pd.DataFrame:
    """Return effects as a table of texts, by treatment and metric.

    Examples
    --------
    >>> effect = Effect("T1", "time", 9, 9, 2.0, 3.0, 50.0, 40.0, 60.0, 1e-9, 2e-9, True)
    >>> effect_table([effect], {"T1": "sticky_artist"}).loc[("T1 sticky_artist", "time in all")].tolist()
    ['2.000', '3.000', '+50.0', '+40.0 … +60.0', '< 0.001']
    """
    rows = {
        (arm_name(effect.treatment, recommenders), METRIC_WORDS.get(effect.metric, effect.metric)): (
            f"{effect.control_mean:,.3f}",
            f"{effect.treatment_mean:,.3f}",
            signed(effect.effect),
            f"{signed(effect.lower)} … {signed(effect.upper)}",
            "< 0.001" if effect.p_holm < 0.001 else f"{effect.p_holm:.3f}",
        )
        for effect in effects
    }
    columns = ["control", "treated", "effect, %", "95 % interval", "p (Holm)"]
    index = pd.MultiIndex.from_tuples(rows, names=["treatment", "metric"])
    return pd.DataFrame(list(rows.values()), columns=columns, index=index)


def signed(percent: float) -> str:
    """Return a change in % with its sign."""
    return "–" if math.isnan(percent) else f"{percent:+.1f}"


MAIN_METRIC = "mean_time_per_session"  # metric of a verdict: how long listeners stay


def verdict(results: ExperimentResults, recommenders: Mapping[str, str]) -> list[str]:
    """Return a sentence for each treatment, the best first, which also names the metrics that got worse."""
    effects = [effect for effect in results.effects if effect.metric == MAIN_METRIC]
    return [_sentence(effect, results, recommenders) for effect in sorted(effects, key=lambda effect: -effect.effect)]


def _sentence(effect: Effect, results: ExperimentResults, recommenders: Mapping[str, str]) -> str:
    """Describe the effect of a treatment on the main metric, with its certainty, and what got worse."""
    metric = METRIC_WORDS[MAIN_METRIC]
    arm, control = arm_name(effect.treatment, recommenders), arm_name(results.control, recommenders)
    interval = f"95 % interval {signed(effect.lower)} to {signed(effect.upper)}"
    worse = [
        f"{METRIC_WORDS.get(other.metric, other.metric)} by {signed(other.effect)} %"
        for other in results.effects
        if other.treatment == effect.treatment and other.metric != MAIN_METRIC and other.better < 0
    ]
    but = f", but this got significantly worse: {', '.join(worse)}" if worse else ""
    if not effect.significant:
        return f"{arm}: {metric} does not differ significantly from that with {control} ({interval}){but}."
    higher = "higher" if effect.effect > 0 else "lower"
    doubt = "" if effect.p_holm < 0.05 else "; not significant once corrected for the number of comparisons"
    return f"{arm}: {metric} is {abs(effect.effect):.1f} % {higher} than with {control} ({interval}{doubt}){but}."
