"""Tables and pictures: all recommenders on the same sessions, and a recommender through a sudden drift.

The drift (`botify.sim.listeners.changing`) is measured with a model that keeps learning and one that has stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from numpy.typing import NDArray
from rich import box
from rich.table import Table

from botify.analytics.plots.lines import line_chart
from botify.bench.recommenders.measure import Measured, Task
from botify.bench.recommenders.yardsticks import ORACLE, Gap
from botify.core.welch import Difference, Mean, Sample, ratio_interval, welch
from botify.sim.listeners.changing import SHIFT_PERIOD_MS
from botify.sim.options import RunOptions

CONTROL = "sticky_artist"
WINDOWS = 40
WIDTH = 125
"""Of the table, in characters."""
_OF_SEED = 10**9
"""Added to user ids for each seed: the same id under another seed is another listener."""

Runs = Mapping[str, Sequence[Measured]]
"""Recommender to a run for each seed; all runs have the same sessions."""


@dataclass(frozen=True, slots=True)
class Row:
    """The results of a recommender.

    Attributes
    ----------
    name : str
    sessions : int
    time, tracks : Mean
        Per session.
    effect : Mean
        On the time, in % of that of `CONTROL`.
    gap : Gap or None
        To the oracle; None if the oracle was not run.
    us_per_recommendation : float
    coverage, repeats : float
        See `Measured`; the mean of the seeds.
    """

    name: str
    sessions: int
    time: Mean
    tracks: Mean
    effect: Mean
    gap: Gap | None
    us_per_recommendation: float
    coverage: float
    repeats: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures that the file has."""
        return {
            "name": self.name,
            "sessions": self.sessions,
            "mean_time_per_session": self.time.estimate,
            "effect_vs_sticky_percent": self.effect.estimate,
            "lower": self.effect.lower,
            "upper": self.effect.upper,
            "us_per_recommendation": self.us_per_recommendation,
        }

    def figures(self) -> dict[str, float | None]:
        """Return the figures that the documentation quotes."""
        return {
            "time": self.time.estimate,
            "effect": self.effect.estimate,
            "lower": self.effect.lower,
            "upper": self.effect.upper,
            **(self.gap.figures() if self.gap else {}),
            "us": self.us_per_recommendation or None,
            "coverage_percent": 100 * self.coverage,
            "repeats_percent": 100 * self.repeats,
        }


def rows_of(runs: Runs) -> list[Row]:
    """Compare all with `CONTROL`, which must be among them, and with the oracle if it is; the best comes first."""
    control, oracle = _times(runs[CONTROL]), runs.get(ORACLE)
    mean, best = float(control.mean()), float(_times(oracle).mean()) if oracle else None
    rows = []
    for name, measured in runs.items():
        users, times = _users(measured), _times(measured)
        tracks, ones = np.concatenate([run.tracks for run in measured]), np.ones(len(times))
        time = ratio_interval(users, ones, times)
        effect = Mean(*(100 * (factor - 1) for factor in ratio_interval(users, control, times)))
        rows.append(
            Row(
                name=name,
                sessions=len(times),
                time=time,
                tracks=ratio_interval(users, ones, tracks),
                effect=effect,
                gap=None if best is None else Gap.of(effect, mean, best),
                us_per_recommendation=_mean(run.us_per_recommendation for run in measured),
                coverage=_mean(run.coverage for run in measured),
                repeats=_mean(run.repeats for run in measured),
            )
        )
    return sorted(rows, key=lambda row: -row.time.estimate)


def table_of(rows: Sequence[Row], title: str) -> Table:
    """Draw the table."""
    headings = ("time", "tracks", f"vs {CONTROL} %", "regret %", "closed %", "µs", "coverage %", "repeats %")
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, width=WIDTH)
    table.add_column("", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.name,
            _plus_minus(row.time),
            _plus_minus(row.tracks),
            "{:+,.0f} [{:+,.0f}, {:+,.0f}]".format(*row.effect),
            *(row.gap.cells() if row.gap else ("", "")),
            f"{row.us_per_recommendation:.1f}" if row.us_per_recommendation else "",
            f"{100 * row.coverage:.1f}",
            f"{100 * row.repeats:.1f}",
        )
    return table


def learning_curve(runs: Runs, names: Sequence[str], windows: int = WINDOWS) -> pd.DataFrame:
    """Return the time of each recommender as a multiple of that of `CONTROL`, in windows of the same sessions.

    Returns
    -------
    DataFrame
        Index the sessions dealt until the end of a window; for each name the columns name, lower and upper.
    """
    per_seed = len(runs[CONTROL][0].times)
    edges = np.linspace(0, per_seed, min(windows, per_seed) + 1).astype(int)
    index = pd.Index(edges[1:], name="sessions")
    columns: dict[tuple[str, str], list[float]] = {}
    for name in names:
        factors = [_factor(runs[name], runs[CONTROL], slice(*window)) for window in pairwise(edges)]
        for which in Mean._fields:
            columns[name, which] = [getattr(factor, which) for factor in factors]
    return pd.DataFrame(columns, index=index)


def draw_curve(curve: pd.DataFrame, title: str, subtitle: str) -> Figure:
    """Draw learning curves as lines with bands, on a logarithmic axis."""
    estimates = pd.DataFrame({name: curve[name, "estimate"] for name in curve.columns.unique(0)})
    bands = {
        str(name): (curve[name, "lower"].clip(lower=0.05).tolist(), curve[name, "upper"].tolist())
        for name in estimates.columns
    }
    figure = line_chart(
        estimates, title, subtitle, "sessions so far", f"time per session, × {CONTROL}",
        control=CONTROL, bands=bands, log_y=True, reference=1.0,
    )  # fmt: skip
    figure.axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    return figure


def _factor(treatment: Sequence[Measured], control: Sequence[Measured], window: slice) -> Mean:
    before, after = (np.concatenate([run.times[window] for run in runs]) for runs in (control, treatment))
    return ratio_interval(_users(treatment, window), before, after)


def _users(runs: Sequence[Measured], window: slice = slice(None)) -> NDArray[np.int64]:
    return np.concatenate([run.users[window] + seed * _OF_SEED for seed, run in enumerate(runs)])


def _times(runs: Sequence[Measured]) -> NDArray[np.float64]:
    return np.concatenate([run.times for run in runs])


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _plus_minus(mean: Mean) -> str:
    return f"{mean.estimate:,.2f} ± {mean.estimate - mean.lower:.2f}"


WINDOW = 2_000
LEARNING, STOPPED = "keeps learning", "stopped learning"


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


def drift_tasks(name: str, world: str, users: int, seed: int) -> dict[str, Task]:
    """Return both runs: two periods with a shift between them; the models of the second run stop learning there."""
    days = 2 * SHIFT_PERIOD_MS / (24 * 60 * 60 * 1000)
    options = RunOptions(users=users, days=days, model="shifting", seed=seed, start_ms=0)
    return {LEARNING: Task(name, world, options), STOPPED: Task(name, world, options, SHIFT_PERIOD_MS)}


def windows_since(measured: Measured) -> list[Since]:
    """Cut the sessions into windows, as they ended, so that one ends at the shift."""
    order = np.argsort(measured.ended_ms, kind="stable")
    times = measured.times[order]
    shift = int(np.searchsorted(measured.ended_ms[order], SHIFT_PERIOD_MS))
    before = Sample.of(times[max(shift - WINDOW, 0) : shift])
    begins = range(shift % WINDOW, len(times) - WINDOW + 1, WINDOW)
    samples = {begin: Sample.of(times[begin : begin + WINDOW]) for begin in begins}
    return [
        Since(begin + WINDOW - shift, here, welch(before, here).in_percent_of(before.mean))
        for begin, here in samples.items()
    ]


def drift_table(learning: list[Since], stopped: list[Since], title: str) -> Table:
    """Draw the windows from the last before the shift on, both models side by side."""
    table = Table(title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("sessions since", justify="right", no_wrap=True)
    for name in (LEARNING, STOPPED):
        table.add_column(name, justify="right", no_wrap=True)
        table.add_column("change %", justify="right", no_wrap=True)
    for row in zip(learning, stopped, strict=False):
        if row[0].until >= 0:
            table.add_row(f"{row[0].until:,}", *(cell for one in row for cell in _cells(one)))
    return table


def draw_drift(learning: list[Since], stopped: list[Since], title: str, subtitle: str) -> Figure:
    """Draw the time of a session over the sessions since the shift."""
    both = {LEARNING: learning, STOPPED: stopped}
    frame = pd.DataFrame({name: {one.until: one.times.mean for one in found} for name, found in both.items()})
    bands = {}
    for name, found in both.items():
        _, lower, upper = zip(*(one.times.interval() for one in found), strict=True)
        bands[name] = (lower, upper)
    figure = line_chart(frame, title, subtitle, "sessions since the shift", "time per session", bands=bands)
    figure.axes[0].axvline(0, color="black", linewidth=1, linestyle=":")
    return figure


def drift_figures(learning: list[Since], stopped: list[Since]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the change in each window after the shift, as the documentation quotes it."""
    return {
        f"{one.until:,}": {"learning": one.change.figures(), "stopped": other.change.figures()}
        for one, other in zip(learning, stopped, strict=False)
        if one.until > 0
    }


def _cells(one: Since) -> tuple[str, str]:
    change = one.change
    shown = f"{change.estimate:+.0f} [{change.lower:+.0f}, {change.upper:+.0f}]" if one.until else ""
    return f"{one.times.mean:.2f}", shown
