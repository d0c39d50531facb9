"""The experiment's table for a terminal."""

from __future__ import annotations

import math

from rich import box
from rich.table import Table

from analytics.experiment import ExperimentResults


def render_table(results: ExperimentResults) -> Table:
    """Draw Botify's table: green where the effect is significantly up, red where it is down, plain where it is not.

    Parameters
    ----------
    results : ExperimentResults

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
    table = Table(
        title=f"Experiment {results.name}: against {results.control}",
        caption="\n".join(lines),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,  # 80 columns hold it
    )
    for heading in ("", "metric"):
        table.add_column(heading, no_wrap=True)
    for heading in ("control", "treated", "effect %", "95 % interval"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("sig.", no_wrap=True)
    for effect in results.effects:
        style = ("green" if effect.effect > 0 else "red") if effect.significant else ""
        table.add_row(
            effect.treatment,
            effect.metric,
            f"{effect.control_mean:,.3f}",
            f"{effect.treatment_mean:,.3f}",
            _percent(effect.effect),
            f"{_percent(effect.lower)} … {_percent(effect.upper)}",
            "yes" if effect.significant else "no",
            style=style,
        )
    return table


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.1f}"
