"""Sections of experiments: each one's effects, and whether experiments on the same listeners interact."""

import json
from collections.abc import Mapping, Sequence
from itertools import combinations

import pandas as pd
from matplotlib.figure import Figure

from botify.analytics import AnalyticsError
from botify.analytics.arms import METRIC_WORDS, arm_name, effect_rows, effect_table, recommender_of_arm, verdict
from botify.analytics.assignment import assign, user_metrics
from botify.analytics.charts import forest_plot
from botify.analytics.experiment import Effect, ExperimentResults, interactions_of, results_of
from botify.analytics.report.page import Note, Part, Picture, Row, Section, Table


def together_section(listens: pd.DataFrame, sessions: pd.DataFrame, experiments: Sequence[str]) -> Section | None:
    """Say which pairs of experiments interact; None if no two share listeners."""
    assignments = {name: assign(listens, name) for name in experiments}
    rows, disturbed = [], []
    for first, second in combinations(experiments, 2):
        try:
            found = interactions_of(sessions, assignments[first], assignments[second])
        except AnalyticsError:  # they share a layer, or one has just begun
            continue
        changed = [METRIC_WORDS.get(metric, metric) for metric in found.found()]
        least = found.table["p_holm"].min()
        rows.append(Row([first, second, ", ".join(changed) or "none seen", f"{found.users:,}", f"{least:.3f}"]))
        disturbed += [f"{first} and {second}"] if changed else []
    if not rows:
        return None
    finding = (
        f"The effects of {'; '.join(disturbed)} depend on each other: compare their combinations."
        if disturbed
        else "No interaction is seen: each experiment can be read as if it were alone."
    )
    headings = ["experiment", "and", "interaction in", "listeners in both", "smallest p (Holm)"]
    return Section("Experiments together", finding, [Table(headings, rows, texts=3)])


_MISMATCH = (
    "Sample-ratio mismatch: unless the experiment declares unequal shares, its split is broken and the results below "
    "are not valid."
)

_HOW_SURE = (
    "Green is better, red is worse: the interval excludes zero. In bold: also significant after correction for the "
    "number of comparisons (Holm)."
)
_ALPHA = 0.05
_DECISIVE = ("mean_time_per_session", "mean_tracks_per_session", "sessions")  # in the picture of several treatments


def experiments_of(listens: pd.DataFrame) -> list[str]:
    """Return the names of the experiments that listens carry."""
    return sorted({name for text in listens["treatments"].unique() for name in json.loads(text)})


def experiment_section(listens: pd.DataFrame, sessions: pd.DataFrame, name: str) -> Section:
    """Show the result of an experiment: the finding, the table, the intervals."""
    heading = f"Experiment {name}"
    try:
        assignment = assign(listens, name)
        results = results_of(name, user_metrics(sessions, assignment), assignment.mixed)
    except AnalyticsError as error:  # one treatment only, or no control
        return Section(heading, f"There is nothing to compare: {error}", [])
    arms = recommender_of_arm(listens, name)
    best, *others = verdict(results, arms)
    parts: list[Part] = [
        *map(Note, others),
        *_warnings(results),
        _table(results, arms),
        Note(_HOW_SURE),
        Picture.of(_forest(results, arms), name, f"effects in {name}"),
    ]
    return Section(heading, best, parts)


def _warnings(results: ExperimentResults) -> list[Note]:
    ratio = results.ratio
    split = ", ".join(f"{users:,} in {name}" for name, users in ratio.observed.items())
    notes = [Note(_MISMATCH, "alarm")] if ratio.mismatch else []
    notes.append(
        Note(f"Listeners: {split}. With equal shares, a split at least so uneven has p = {ratio.p_value:.2g}.")
    )
    if results.mixed:
        notes.append(Note(f"{results.mixed:,} listeners seen in several treatments are left out."))
    return notes


def _table(results: ExperimentResults, arms: Mapping[str, str]) -> Table:
    effects = effect_table(results.effects, arms)
    rows = [
        Row([*names, *values], _mood(effect))
        for names, values, effect in zip(
            effects.index, effects.itertuples(index=False, name=None), results.effects, strict=True
        )
    ]
    return Table([*map(str, effects.index.names), *effects.columns], rows, texts=2)


def _mood(effect: Effect) -> str:
    sure = " sure" if effect.p_holm < _ALPHA else ""
    return ("", f"up{sure}", f"down{sure}")[effect.better]


def _forest(results: ExperimentResults, arms: Mapping[str, str]) -> Figure:
    treated = {arm_name(effect.treatment, arms) for effect in results.effects}
    one = len(treated) == 1
    rows = effect_rows(results.effects, arms, METRIC_WORDS.keys() if one else _DECISIVE)
    return forest_plot(
        rows.rename(index=lambda name: name.rsplit(" · ")[-1] if one else name.replace(" · ", "\n")),
        f"Effects of {treated.pop() if one else 'each treatment'} against {arm_name(results.control, arms)}",
        "estimate and 95 % interval (Welch, over listeners)",
        "effect, %",
    )
