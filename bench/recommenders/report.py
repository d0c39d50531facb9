"""The bench's table, its file and its picture, from what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter
from rich import box
from rich.table import Table

from analytics.plots.lines import line_chart
from bench.recommenders.measure import ORACLE, Effect, Interval, Measured, mean_of_sessions, paired_effect

CONTROL = "sticky_artist"
WINDOWS = 40
WIDTH = 112
"""Of the table, in characters."""
_OF_SEED = 10**9
"""A listener is another one under another seed."""

Runs = Mapping[str, Sequence[Measured]]
"""By recommender, a run for each seed, all of the same sessions."""


@dataclass(frozen=True, slots=True)
class Row:
    """What a recommender came to.

    Attributes
    ----------
    name : str
    sessions : int
    time, tracks : Interval
        Per session.
    effect : Effect
        On the time, against `CONTROL`.
    regret_percent : float or None
        What it lacks of the oracle's time; None where the oracle was not run.
    us_per_recommendation : float
    coverage, repeats : float
        See `Measured`; the mean of the seeds.
    """

    name: str
    sessions: int
    time: Interval
    tracks: Interval
    effect: Effect
    regret_percent: float | None
    us_per_recommendation: float
    coverage: float
    repeats: float

    def to_json(self) -> dict[str, Any]:
        """Return the figures that the file has."""
        return {
            "name": self.name,
            "sessions": self.sessions,
            "mean_time_per_session": self.time.mean,
            "effect_vs_sticky_percent": self.effect.percent,
            "lower": self.effect.lower,
            "upper": self.effect.upper,
            "us_per_recommendation": self.us_per_recommendation,
        }


def rows_of(runs: Runs) -> list[Row]:
    """Compare all with `CONTROL`, which must be among them, and with the oracle where it is; the best comes first."""
    control, oracle = _times(runs[CONTROL]), runs.get(ORACLE)
    best = float(_times(oracle).mean()) if oracle else None
    rows = []
    for name, measured in runs.items():
        users, times = _users(measured), _times(measured)
        time = mean_of_sessions(users, times)
        rows.append(
            Row(
                name=name,
                sessions=len(times),
                time=time,
                tracks=mean_of_sessions(users, np.concatenate([run.tracks for run in measured])),
                effect=paired_effect(users, control, times),
                regret_percent=None if best is None else 100 * (1 - time.mean / best),
                us_per_recommendation=_mean(run.us_per_recommendation for run in measured),
                coverage=_mean(run.coverage for run in measured),
                repeats=_mean(run.repeats for run in measured),
            )
        )
    return sorted(rows, key=lambda row: -row.time.mean)


def table_of(rows: Sequence[Row], title: str) -> Table:
    """Draw the table."""
    headings = ("time", "tracks", f"vs {CONTROL} %", "regret %", "µs", "coverage %", "repeats %")
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
            "" if row.regret_percent is None else f"{row.regret_percent:.1f}",
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
        for place, which in enumerate(("estimate", "lower", "upper")):
            columns[name, which] = [factor[place] for factor in factors]
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


def _factor(treatment: Sequence[Measured], control: Sequence[Measured], window: slice) -> tuple[float, float, float]:
    users = np.concatenate([run.users[window] + seed * _OF_SEED for seed, run in enumerate(treatment)])
    before, after = (np.concatenate([run.times[window] for run in runs]) for runs in (control, treatment))
    return paired_effect(users, before, after).factor


def _users(runs: Sequence[Measured]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.concatenate([run.users + seed * _OF_SEED for seed, run in enumerate(runs)])


def _times(runs: Sequence[Measured]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.concatenate([run.times for run in runs])


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


def _plus_minus(interval: Interval) -> str:
    return f"{interval.mean:,.2f} ± {interval.mean - interval.lower:.2f}"
