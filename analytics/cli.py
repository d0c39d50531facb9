"""`botify experiment power`, and the tables of effects and interactions that `botify experiment results` prints."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
import typer
from rich import box
from rich.table import Table

from botify.analytics import AnalyticsError
from botify.analytics.arms import signed
from botify.analytics.assignment import (
    FEWEST,
    Assignment,
    assign,
    by_segment,
    favourite_genres,
    metrics_before,
    returning,
)
from botify.analytics.data import read_attribute, read_listens
from botify.analytics.experiment import Analysis, ExperimentResults, Interactions, analyse, interactions_of
from botify.analytics.exported import open_listens
from botify.analytics.planning import Plan, Wanted, plan_experiment
from botify.analytics.sessions import sessions_of
from botify.core.cli import Alpha, Data, Json, Run, console, print_json, progress, say
from botify.core.kafka.admin import require_kafka
from botify.core.settings import Settings
from botify.core.sql import EngineName, EngineOption, needs_files
from botify.schemas.catalogue import read_catalogue
from botify.schemas.registry import codec_of


class Source(NamedTuple):
    """Where a command reads listens: an export in a folder, or the topic."""

    data: Path | None
    run: str | None
    engine: EngineName = EngineName.DUCKDB

    def read(self, *experiments: str) -> tuple[pd.DataFrame, list[Assignment]]:
        """Return all sessions, and the listeners of each experiment."""
        with progress("Reading listens") as bar:
            if self.data is not None:
                with open_listens(self.data, self.run, self.engine) as exported:
                    return exported.sessions(), [exported.assignment(name) for name in experiments]
            if self.engine is not EngineName.DUCKDB:
                raise AnalyticsError(needs_files(self.engine))
            listens = read_listens(require_kafka(Settings.from_env()), run_id=self.run, tell=bar.advance)
            return sessions_of(listens), [assign(listens, name) for name in experiments]

    def favourite_genres(self) -> pd.Series[str]:
        """Return each listener's genre, by the catalogue on its topic."""
        settings = require_kafka(Settings.from_env())
        genre_of = {number: track.genre for number, track in read_catalogue(settings, codec_of(settings)).items()}
        if self.data is None:
            return favourite_genres(read_listens(settings, run_id=self.run), genre_of)
        with open_listens(self.data, self.run, self.engine) as exported:
            return favourite_genres(exported.chosen_tracks(), genre_of)


def print_effects(name: str, source: Source, analysis: Analysis, segment: str | None, *, as_json: bool) -> None:
    """Print the effects of an experiment, in all or within segments."""
    sessions, (assignment,) = source.read(name)
    segments = {"": assignment} if segment is None else _segments(segment, sessions, assignment, source)
    if not segments:
        raise AnalyticsError(f"no segment has {FEWEST} listeners; leave out --segment")
    analysed = {one: analyse(name, sessions, of, analysis) for one, of in segments.items()}
    if as_json:
        fields = {one: _fields(*found) for one, found in analysed.items()}
        print_json(fields[""] if segment is None else {"experiment": name, "segments": fields})
        return
    for one, (found, notes) in analysed.items():
        if one:
            console.print(f"[bold]{one}[/]")
        console.print(render_table(found, notes, analysis.alpha))
    if segment is not None:
        say("each segment is another chance of a false finding: read them as questions, not as results")


def print_interaction(first: str, second: str, source: Source, alpha: float, *, as_json: bool) -> None:
    """Print whether the effects of two experiments add up."""
    sessions, (one, other) = source.read(first, second)
    found = interactions_of(sessions, one, other)
    if as_json:
        metrics = found.table.reset_index(names="metric").to_dict("records")
        print_json({"users": found.users, "found": found.found(alpha), "metrics": metrics})
    else:
        console.print(render_interactions(first, second, found, alpha))


def power(
    effect: Annotated[
        float | None, typer.Option(help="Smallest relevant effect, in % of the control's mean.", show_default=False)
    ] = None,
    from_whatif: Annotated[
        Path | None, typer.Option(help="In its place: the effect that `botify whatif --json` wrote to this file.")
    ] = None,
    metric: Annotated[str, typer.Option(help="Primary metric.")] = "time",
    wanted_power: Annotated[float, typer.Option("--power", help="Probability of detecting the effect.")] = 0.8,
    alpha: Alpha = 0.05,
    treatments: Annotated[int, typer.Option(min=1, help="Number of treatments besides the control.")] = 1,
    variance_reduction: Annotated[
        float, typer.Option(min=0, max=1, help="Fraction of the variance that CUPED removes, 0 to 1.")
    ] = 0.0,
    run: Run = None,
    data: Data = None,
    engine: EngineOption = EngineName.DUCKDB,
    as_json: Json = False,
) -> None:
    """Estimate the listeners and days that an experiment needs, from existing listens."""
    if (effect is None) == (from_whatif is None):
        raise AnalyticsError("give either --effect or --from-whatif")
    if from_whatif is not None:
        effect = effect_of_whatif(from_whatif)
    wanted = Wanted(metric, effect or 0.0, wanted_power, alpha, treatments, variance_reduction)
    sessions, _ = Source(data, run, engine).read()
    plan = plan_experiment(sessions, wanted)
    if as_json:
        print_json({**wanted._asdict(), **plan._asdict()})
    else:
        console.print(render_plan(wanted, plan))


def effect_of_whatif(file: Path) -> float:
    """Return the difference that a what-if found, in %; raises `AnalyticsError` if it found none that can be tested."""
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        why_not, percent = said["cannot_tell"], said["percent"]
        effect = None if percent is None else float(percent[0])
    except (ValueError, TypeError, LookupError) as error:
        raise AnalyticsError(f"{file} is not what `botify whatif --json` writes ({error!r})") from error
    if why_not is not None or effect is None:
        raise AnalyticsError(f"{file} has no effect to plan for: {why_not}; give one by --effect")
    if not math.isfinite(effect) or effect == 0:
        raise AnalyticsError(f"{file} has an effect of {effect:g} %, which no number of listeners shows")
    return effect


def _fields(results: ExperimentResults, notes: Iterable[str]) -> dict[str, object]:
    return {
        "experiment": results.name,
        "control": results.control,
        "effects": [{**effect._asdict(), "better": effect.better} for effect in results.effects],
        "sample_ratio": {**results.ratio._asdict(), "mismatch": results.ratio.mismatch},
        "mixed_listeners": results.mixed,
        "notes": list(notes),
    }


def _segments(segment: str, sessions: pd.DataFrame, assignment: Assignment, source: Source) -> dict[str, Assignment]:
    """Return the assignment of each segment's users."""
    kind, _, attribute = segment.partition(":")
    if segment == "returning":
        segment_of = returning(assignment.users, metrics_before(sessions, assignment))
    elif segment == "genre":
        segment_of = source.favourite_genres()
    elif kind == "attribute" and attribute:
        segment_of = read_attribute(require_kafka(Settings.from_env()), attribute)
        if segment_of.empty:
            raise AnalyticsError(f"no listener has the attribute {attribute!r}; put it with PUT /v1/users/NAME")
    else:
        raise AnalyticsError(f"segment {segment!r} is none of returning, genre, and attribute:NAME")
    return {name: assignment._replace(users=users) for name, users in by_segment(assignment.users, segment_of)}


def with_metrics(texts: Sequence[str]) -> Analysis:
    """Return an analysis with these metrics in addition to the usual ones."""
    days: list[int] = []
    quantiles: list[float] = []
    for text in texts:
        kind, _, number = text.partition(":")
        is_known = text == "ratio"
        with suppress(ValueError):
            if kind == "retention" and (is_known := int(number) >= 1):
                days.append(int(number))
            elif kind == "quantile" and (is_known := 0.01 <= float(number) <= 0.99):
                quantiles.append(float(number))
        if not is_known:
            raise AnalyticsError(f"metric {text!r} is none of retention:DAYS, quantile:0.01 to 0.99, and ratio")
    return Analysis(retention_days=days, quantiles=quantiles, ratio="ratio" in texts)


def weights_of(text: str) -> dict[str, float]:
    """Return the declared split of a text such as `C=3,T1=1`."""
    try:
        return {treatment: float(weight) for treatment, weight in (part.split("=") for part in text.split(","))}
    except ValueError as error:
        raise AnalyticsError(f"split {text!r} is not treatments with weights, such as C=3,T1=1") from error


def metrics_table(title: str, texts: Iterable[str], numbers: Iterable[str]) -> Table:
    """Return an empty table with columns of texts and of numbers, which 80 columns hold."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in texts:
        table.add_column(heading, no_wrap=True)
    for heading in numbers:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def render_table(results: ExperimentResults, notes: Iterable[str] = (), alpha: float = 0.05) -> Table:
    """Draw Botify's table: significant effects in green (better) or red (worse)."""
    ratio = results.ratio
    lines = ["listeners: " + ", ".join(f"{users:,} in {name}" for name, users in ratio.observed.items())]
    if ratio.mismatch:
        lines.append(
            f"[bold red]sample-ratio mismatch (p = {ratio.p_value:.1g}): the split is broken, do not use the results[/]"
        )
    if results.mixed:
        lines.append(f"{results.mixed:,} listeners seen in several treatments are left out")
    lines.extend(notes)
    numbers = ("control", "treated", "effect %", f"{100 * (1 - alpha):g} % interval")
    table = metrics_table(f"Experiment {results.name}: against {results.control}", ("", "metric"), numbers)
    table.caption = "\n".join(lines)
    table.add_column("sig.", no_wrap=True)
    for effect in results.effects:
        style = ("", "green", "red")[effect.better]
        table.add_row(
            effect.treatment,
            effect.metric,
            f"{effect.control_mean:,.3f}",
            f"{effect.treatment_mean:,.3f}",
            signed(effect.effect),
            f"{signed(effect.lower)} … {signed(effect.upper)}",
            "yes" if effect.significant else "no",
            style=style,
        )
    return table


def render_interactions(first: str, second: str, interactions: Interactions, alpha: float = 0.05) -> Table:
    """Draw the test of an interaction between two experiments."""
    found = interactions.found(alpha)
    verdict = (
        f"[bold red]they interact in: {', '.join(found)}; compare the combinations instead[/]"
        if found
        else "no interaction is seen: each experiment can be read as if it were alone"
    )
    title = f"{first} and {second} on the same {interactions.users:,} listeners"
    table = metrics_table(title, ("metric",), ("chi-square", "df", "p", "p (Holm)"))
    table.caption = verdict
    for metric, statistic, df, p_value, p_holm in interactions.table.itertuples():
        numbers = (f"{statistic:.2f}", f"{df:.0f}", f"{p_value:.4f}", f"{p_holm:.4f}")
        table.add_row(metric, *(("–",) * 4 if math.isnan(statistic) else numbers))
    return table


def render_plan(wanted: Wanted, plan: Plan) -> Table:
    """Draw a plan."""
    arms = wanted.treatments + 1
    title = f"To detect {wanted.effect:+g} % {wanted.metric} with a probability of {wanted.wanted_power:g}"
    table = metrics_table(title, ("",), ("",))
    table.show_header = False
    table.add_row("listeners each", f"{plan.users_each:,}")
    table.add_row(f"listeners, {arms} arms", f"{plan.users_each * arms:,}")
    table.add_row("days, at the pace of the data", "more than the data has" if plan.days is None else f"{plan.days:,}")
    table.add_row(f"{wanted.metric}: mean ± deviation", f"{plan.mean:,.3f} ± {plan.deviation:,.3f}")
    table.add_row(f"effect that {plan.users_seen:,} listeners detect", f"±{plan.smallest_effect:.2f} %")
    return table
