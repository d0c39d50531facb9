"""A world that turns overnight (`sim.listeners.changing`): a model that goes on learning, and one that has stopped."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich import box
from rich.table import Table

from analytics.plots.lines import line_chart
from bench.recommenders.measure import Measured
from bench.recommenders.runs import Task
from core.welch import Difference, Sample, welch
from sim.listeners.changing import SHIFT_PERIOD_MS
from sim.options import RunOptions
from sim.world import WorldConfig

WINDOW = 2_000
ONLINE, FROZEN = "goes on learning", "stopped learning"


class Since(NamedTuple):
    """Sessions that ended one after another.

    Attributes
    ----------
    until : int
        Sessions since the shift at the window's end; 0 for the last window before.
    times : Sample
        Of the sessions.
    change : Difference
        From the last window before the shift, in % of its mean.
    """

    until: int
    times: Sample
    change: Difference


def drift_tasks(name: str, world: WorldConfig, users: int, seed: int) -> dict[str, Task]:
    """Return both runs: two periods, between which the world turns, and one of the models learns no more."""
    days = 2 * SHIFT_PERIOD_MS / (24 * 60 * 60 * 1000)
    options = RunOptions(users=users, days=days, model="shifting", seed=seed, start_ms=0)
    return {ONLINE: Task(name, world, options), FROZEN: Task(name, world, options, SHIFT_PERIOD_MS)}


def windows_since(measured: Measured) -> list[Since]:
    """Cut the sessions into windows, as they ended, so that one ends at the shift."""
    order = np.argsort(measured.ended_ms, kind="stable")
    times = measured.times[order]
    shift = int(np.searchsorted(measured.ended_ms[order], SHIFT_PERIOD_MS))
    before = Sample.of(times[max(shift - WINDOW, 0) : shift])
    percent, found = 100 / before.mean, []
    for begin in range(shift % WINDOW, len(times) - WINDOW + 1, WINDOW):
        here = Sample.of(times[begin : begin + WINDOW])
        change = welch(before, here)
        found.append(
            Since(
                begin + WINDOW - shift,
                here,
                change._replace(
                    estimate=change.estimate * percent, lower=change.lower * percent, upper=change.upper * percent
                ),
            )
        )
    return found


def drift_table(online: list[Since], frozen: list[Since], title: str) -> Table:
    """Draw the windows from the last before the shift on, both models side by side."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("sessions since", justify="right", no_wrap=True)
    for name in (ONLINE, FROZEN):
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("change %", justify="right", no_wrap=True)
    for row in zip(online, frozen, strict=False):
        if row[0].until >= 0:
            table.add_row(f"{row[0].until:,}", *(cell for one in row for cell in _cells(one)))
    return table


def draw_drift(online: list[Since], frozen: list[Since], title: str, subtitle: str) -> Figure:
    """Draw the time of a session over the sessions since the shift."""
    both = {ONLINE: online, FROZEN: frozen}
    frame = pd.DataFrame({name: {one.until: one.times.mean for one in found} for name, found in both.items()})
    bands = {}
    for name, found in both.items():
        half = [1.96 * (one.times.variance / one.times.n) ** 0.5 for one in found]
        means = frame[name].dropna().to_numpy()
        bands[name] = ((means - half).tolist(), (means + half).tolist())
    figure = line_chart(frame, title, subtitle, "sessions since the shift", "time per session", bands=bands)
    figure.axes[0].axvline(0, color="black", linewidth=1, linestyle=":")
    return figure


def _cells(one: Since) -> tuple[str, str]:
    change = one.change
    shown = f"{change.estimate:+.0f} [{change.lower:+.0f}, {change.upper:+.0f}]" if one.until else ""
    return f"{one.times.mean:.2f}", shown
