"""The experiment's table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich import box
from rich.table import Table

from analytics.arms import signed
from analytics.experiment import ExperimentResults
from analytics.monitoring import Interactions
from analytics.planning import Plan, Wanted


def render_table(results: ExperimentResults, notes: Iterable[str] = (), alpha: float = 0.05) -> Table:
    """Draw Botify's table: green where the effect is significantly up, red where it is down, plain where it is not.

    Parameters
    ----------
    results : ExperimentResults
    notes : iterable of str
        Put below the table.
    alpha : float
        One minus the confidence of the intervals.

    Returns
    -------
    rich.table.Table
    """
    ratio = results.ratio
    lines = ["listeners: " + ", ".join(f"{users:,} in {name}" for name, users in ratio.observed.items())]
    if ratio.mismatch:
        lines.append(
            f"[bold red]sample-ratio mismatch (p = {ratio.p_value:.1g}): the split is broken, trust nothing[/]"
        )
    if results.mixed:
        lines.append(f"{results.mixed:,} listeners seen in several treatments are left out")
    lines.extend(notes)
    table = Table(
        title=f"Experiment {results.name}: against {results.control}",
        caption="\n".join(lines),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,  # 80 columns hold it
    )
    for heading in ("", "metric"):
        table.add_column(heading, no_wrap=True)
    for heading in ("control", "treated", "effect %", f"{100 * (1 - alpha):g} % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sig.", no_wrap=True)
    for effect in results.effects:
        style = ("green" if effect.effect > 0 else "red") if effect.significant else ""
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
    """Draw whether two experiments change each other's effects."""
    found = interactions.found(alpha)
    verdict = (
        f"[bold red]the one changes what the other does to: {', '.join(found)}; compare the combinations instead[/]"
        if found
        else "none can be seen: each experiment may be read as if it were alone"
    )
    table = Table(
        title=f"{first} and {second} on the same {interactions.users:,} listeners",
        caption=verdict,
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("metric", no_wrap=True)
    for heading in ("chi-square", "df", "p", "p (Holm)"):
        table.add_column(heading, justify="right", no_wrap=True)
    for metric, statistic, df, p_value, p_holm in interactions.table.itertuples():
        numbers = (f"{statistic:.2f}", f"{df:.0f}", f"{p_value:.4f}", f"{p_holm:.4f}")
        table.add_row(metric, *(("–",) * 4 if math.isnan(statistic) else numbers))
    return table


def render_plan(wanted: Wanted, plan: Plan) -> Table:
    """Draw what an experiment takes."""
    arms = wanted.treatments + 1
    table = Table(
        title=f"To see {wanted.effect:+g} % {wanted.metric} with a probability of {wanted.wanted_power:g}",
        box=box.SIMPLE_HEAD,
        show_header=False,
        pad_edge=False,
    )
    table.add_column("")
    table.add_column("", justify="right", no_wrap=True)
    table.add_row("listeners each", f"{plan.users_each:,}")
    table.add_row(f"listeners, {arms} arms", f"{plan.users_each * arms:,}")
    table.add_row("days, as listeners came so far", "more than there are" if plan.days is None else f"{plan.days:,}")
    table.add_row(f"{wanted.metric}: mean ± deviation", f"{plan.mean:,.3f} ± {plan.deviation:,.3f}")
    table.add_row(f"the {plan.users_seen:,} listeners seen would show", f"±{plan.smallest_effect:.2f} %")
    return table
