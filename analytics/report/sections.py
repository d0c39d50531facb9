"""Sections of experiments, of listening and of the pipeline, and the report with all of them."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from botify.analytics import AnalyticsError
from botify.analytics.arms import METRIC_WORDS, arm_name, effect_rows, effect_table, recommender_of_arm, verdict
from botify.analytics.assignment import assign, user_metrics
from botify.analytics.charts import forest_plot, line_chart
from botify.analytics.experiment import CONTROL, Effect, ExperimentResults, interactions_of, results_of
from botify.analytics.pipeline import answered_per_s, health_summary, latency_over_time
from botify.analytics.popularity import popularity_over_time
from botify.analytics.report import ReportData
from botify.analytics.report.page import Note, Part, Picture, Row, Section, Table, render_page
from botify.analytics.sessions import fraction_by_position, sessions_of, still_listening


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


_REACHED = 0.02  # the curves end where the share of remaining sessions is below this in every arm


def session_section(listens: pd.DataFrame, sessions: pd.DataFrame, experiment: str | None) -> Section:
    """Show session curves, by the arms of an experiment if there is one."""
    arm_of, control = _arms(listens, experiment)
    curves = still_listening(sessions.assign(arm=sessions["user"].map(arm_of)), by="arm")
    last = max(int((curves.max(axis=1) >= _REACHED).sum()), 1)
    heard = fraction_by_position(listens.assign(arm=listens["user"].map(arm_of)), by="arm", most=last)
    draw = partial(line_chart, control=control, percent=True)
    about = "share of sessions that continue after this number of tracks (Kaplan–Meier)"
    lengths = draw(curves.iloc[: last + 1], "How long sessions last", about, "tracks heard", "still listening")
    about, place = "mean fraction at each position, over the sessions that reach it", "position in the session"
    fractions = draw(heard, "How much of a recommended track is heard", about, place, "fraction heard")
    parts: list[Part] = [
        Picture.of(lengths, "still-listening", "share of sessions that continue, by number of tracks"),
        Picture.of(fractions, "heard", "mean fraction heard, by position"),
    ]
    if unseen := 1 - float(sessions["ended"].mean()):
        parts.append(
            Note(f"The end of {unseen:.1%} of the sessions was not seen; they count for as long as they were.")
        )
    tracks, time = sessions["tracks"], sessions["time"]
    finding = (
        f"{len(sessions):,} sessions of {sessions['user'].nunique():,} listeners: "
        f"{tracks.mean():.2f} tracks and {time.mean():.2f} of listening time each; "
        f"the longest tenth last for {tracks.quantile(0.9):.0f} tracks or more."
    )
    return Section("Sessions", finding, parts)


def _arms(listens: pd.DataFrame, experiment: str | None) -> tuple[pd.Series, str | None]:
    """Return each user's arm, named by its recommender, and the control's name."""
    if experiment is None:
        return pd.Series("all", index=listens["user"].unique()), None
    treatments = assign(listens, experiment).users["treatment"].astype(str)
    recommenders = recommender_of_arm(listens, experiment)
    return treatments.map(lambda arm: arm_name(arm, recommenders)), arm_name(CONTROL, recommenders)


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


def popularity_section(data: ReportData) -> Section:
    """Show the tracks that were the most popular at any time, with a half-life that fits the period."""
    listens = data.listens
    first_ms, last_ms = (int(listens["timestamp_ms"].agg(end)) for end in ("min", "max"))
    name, half_life_ms = fitting_half_life(last_ms - first_ms)
    # during the first half-life the sums only fill up
    moments = np.linspace(min(first_ms + half_life_ms, last_ms), last_ms, _MOMENTS).astype(np.int64)
    popularity = popularity_over_time(listens, half_life_ms, np.unique(moments), _most_heard(listens))
    top = popularity.max().nlargest(_SHOWN).index
    shown = popularity[top[np.argsort(-popularity[top].iloc[-1].to_numpy(), kind="stable")]]
    titles = {track: data.title_of(int(track)) for track in shown.columns}
    about = f"sum of the fractions heard, each halved every {name}; the tracks with the highest peaks"
    chart = line_chart(
        shown.rename(columns=titles), "Popularity over time", about, "event time (UTC)", "decayed listens"
    )
    finding, table = _heard_most(data)
    parts: list[Part] = [
        Picture.of(chart, "popularity", "popularity of the most popular tracks over event time"),
        table,
        Note("A track counts by the fraction that was heard, so a skipped track does not become popular."),
    ]
    return Section("Popularity", finding, parts)


def fitting_half_life(span_ms: int) -> tuple[str, int]:
    """Return the longest half-life that fits eight times into a period, else the shortest."""
    fitting = [(name, ms) for name, ms in _HALF_LIVES_MS.items() if 8 * ms <= span_ms]
    return fitting[-1] if fitting else next(iter(_HALF_LIVES_MS.items()))


_CANDIDATES = 500
_LISTED = 10


def _most_heard(listens: pd.DataFrame) -> list[int]:
    """Return the most heard tracks of each tenth of the period, which include every peak."""
    tenth = pd.qcut(listens["timestamp_ms"].rank(method="first"), 10, labels=False)
    sums = listens.groupby([tenth, "track"])["fraction"].sum()
    best = sums.groupby(level=0, group_keys=False).nlargest(_CANDIDATES // 10)
    return sorted({int(track) for track in best.index.get_level_values("track")})


def _heard_most(data: ReportData) -> tuple[str, Table]:
    """Return what is heard most, in a sentence and as a table."""
    heard = data.listens.groupby("track").agg(
        listens=("fraction", "size"), time=("fraction", "sum"), fraction=("fraction", "mean")
    )
    heard = heard.sort_values("time", ascending=False, kind="stable")
    rows = [
        Row([data.title_of(int(track)), f"{listens:,}", f"{time:,.1f}", f"{fraction:.0%}"])
        for track, listens, time, fraction in heard.head(_LISTED).itertuples()
    ]
    share = float(heard["time"].iloc[: max(1, len(heard) // 100)].sum() / heard["time"].sum())
    finding = (
        f"{len(heard):,} different tracks were heard; the most popular is {data.title_of(int(heard.index[0]))}, and "
        f"the top 1 % of the tracks make {share:.1%} of the listening time."
    )
    return finding, Table(["track", "listens", "time", "heard of it"], rows)


_STEPS = 200
_FRESH = (
    "Fresh: the recommender knew every listen of the session, the last one from the request and those before it from "
    "the state in Redis."
)


def health_section(data: ReportData) -> Section:
    """Show latency, freshness and lag, as far as the data has them."""
    answers = data.answers
    if answers is None or not answers["latency_ms"].notna().any():
        return _from_listens(data.listens)
    summary = health_summary(answers)
    total = summary.loc["all"]
    unanswered = int(answers["latency_ms"].isna().sum())
    rows = [
        Row([str(name), f"{row.answered:,.0f}", *(f"{row[f'p{p}']:,.0f}" for p in (50, 95, 99)), f"{row.fresh:.1%}"])
        for name, row in summary.iterrows()
    ]
    finding = (
        f"Of {len(answers):,} requests {unanswered:,} went unanswered; half of the answers were there within "
        f"{total['p50']:,.0f} ms and 99 in 100 within {total['p99']:,.0f} ms, and {total['fresh']:.1%} of them knew "
        "the whole session."
    )
    parts: list[Part] = [
        *_latency(answers),
        Table(["recommender", "answered", "p50 ms", "p95 ms", "p99 ms", "fresh"], rows),
        Note(_FRESH),
    ]
    if data.lag is not None and not data.lag.empty:
        lags = [Row([group, topic, f"{behind:,}"]) for group, topic, behind in data.lag.itertuples(index=False)]
        parts.append(Table(["group", "topic", "records behind"], lags, texts=2))
    return Section("Pipeline", finding, parts)


def _latency(answers: pd.DataFrame) -> list[Picture]:
    step = f"{_step_s(answers)}s"
    about = f"from request to answer, as Kafka took them; percentiles of every {step}"
    percentiles = latency_over_time(answers, step).dropna()
    latency = line_chart(percentiles, "Latency over time", about, "wall clock (UTC)", "ms")
    answered, unit = answered_per_s(answers, step).to_frame("answers"), "answers a second"
    rate = line_chart(answered, "Answers a second", f"mean of every {step}", "wall clock (UTC)", unit)
    return [
        Picture.of(latency, "latency", "latency percentiles over wall time"),
        Picture.of(rate, "rate", "answers a second over wall time"),
    ]


def _step_s(answers: pd.DataFrame) -> int:
    """Return the step in whole seconds that divides the period into at most `_STEPS`."""
    span = answers["asked_at"].max() - answers["asked_at"].min()
    return max(1, int(span.total_seconds() // _STEPS))


def _from_listens(listens: pd.DataFrame) -> Section:
    """Show the latency that listeners saw, without requests and answers."""
    latency = listens["latency_ms"].dropna()
    if latency.empty:
        return Section("Pipeline", "No listen says how long its recommendation took.", [])
    finding = (
        f"Listeners waited {latency.median():,.0f} ms for half of {len(latency):,} recommendations, and at most "
        f"{latency.quantile(0.99):,.0f} ms for 99 in 100."
    )
    return Section(
        "Pipeline", finding, [Note("The data has no requests and answers, so freshness and lag are left out.")]
    )


def render_report(data: ReportData) -> str:
    """Return the report as one page of HTML; raises `AnalyticsError` if there are no listens."""
    listens = data.listens
    if listens.empty:
        raise AnalyticsError(f"{data.source} has no listens; run a simulation first: `botify sim`")
    experiments, sessions = experiments_of(listens), sessions_of(listens)
    together = together_section(listens, sessions, experiments)
    sections = [
        *(experiment_section(listens, sessions, name) for name in experiments),
        *([together] if together else []),
        session_section(listens, sessions, experiments[0] if experiments else None),
        popularity_section(data),
        health_section(data),
    ]
    first, last = (pd.Timestamp(listens["timestamp_ms"].agg(end), unit="ms") for end in ("min", "max"))
    span = f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M}"
    count = listens["session_id"].nunique()
    facts = {
        "listens": f"{len(listens):,}",
        "listeners": f"{listens['user'].nunique():,}",
        "sessions": f"{count:,}",
        "tracks heard": f"{listens['track'].nunique():,}",
        "time per session": f"{listens['fraction'].sum() / count:.2f}",
    }
    return render_page(f"{data.source}; event time {span} (UTC)", facts, sections)
