"""Tables of recommenders on the same sessions; and of one through a sudden drift, still learning or stopped."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.table import Table

from botify.analytics.charts import line_chart
from botify.bench.figures import table
from botify.bench.simulated import Measured, Task
from botify.bench.yardsticks import ORACLE, Gap
from botify.core.welch import Difference, Mean, Sample, ratio_interval, welch
from botify.sim.listeners.changing import SHIFT_PERIOD_MS
from botify.sim.options import RunOptions

CONTROL = "sticky_artist"
WIDTH = 125  # of the table, in characters
_OF_SEED = 10**9  # added to user ids for each seed: the same id under another seed is another listener

Runs = Mapping[str, Sequence[Measured]]  # recommender to a run for each seed; all runs have the same sessions


@dataclass(frozen=True, slots=True)
class Row:
    """The results of a recommender: means per session, and the effect on the time in % of that of `CONTROL`."""

    name: str
    time: Mean
    tracks: Mean
    effect: Mean
    gap: Gap | None
    us_per_recommendation: float
    coverage: float
    repeats: float

    def figures(self) -> dict[str, float | None]:
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
    headings = ("", "time", "tracks", f"vs {CONTROL} %", "regret %", "closed %", "µs", "coverage %", "repeats %")
    cells = []
    for row in rows:
        means = (f"{mean.estimate:,.2f} ± {mean.estimate - mean.lower:.2f}" for mean in (row.time, row.tracks))
        effect, gap = "{:+,.0f} [{:+,.0f}, {:+,.0f}]".format(*row.effect), row.gap.cells() if row.gap else ("", "")
        us = f"{row.us_per_recommendation:.1f}" if row.us_per_recommendation else ""
        cells.append((row.name, *means, effect, *gap, us, f"{100 * row.coverage:.1f}", f"{100 * row.repeats:.1f}"))
    return table(title, headings, cells)


def _users(runs: Sequence[Measured]) -> NDArray[np.int64]:
    return np.concatenate([run.users + seed * _OF_SEED for seed, run in enumerate(runs)])


def _times(runs: Sequence[Measured]) -> NDArray[np.float64]:
    return np.concatenate([run.times for run in runs])


def _mean(values: Any) -> float:
    return float(np.mean(list(values)))


WINDOW = 2_000
LEARNING, STOPPED = "keeps learning", "stopped learning"


class Since(NamedTuple):
    """Sessions that ended in turn, `until` of them since the shift, and the change from the last window before it."""

    until: int
    times: Sample
    change: Difference

    def cells(self) -> tuple[str, str]:
        change = self.change
        shown = f"{change.estimate:+.0f} [{change.lower:+.0f}, {change.upper:+.0f}]" if self.until else ""
        return f"{self.times.mean:.2f}", shown


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
    changes = {begin: welch(before, here).in_percent_of(before.mean) for begin, here in samples.items()}
    return [Since(begin + WINDOW - shift, here, changes[begin]) for begin, here in samples.items()]


def drift_table(learning: list[Since], stopped: list[Since], title: str) -> Table:
    """Return the windows from the last before the shift on, with both models in one row."""
    rows = [
        (f"{one.until:,}", *one.cells(), *other.cells())
        for one, other in zip(learning, stopped, strict=False)
        if one.until >= 0
    ]
    return table(title, ("sessions since", LEARNING, "change %", STOPPED, "change %"), rows)


def draw_drift(learning: list[Since], stopped: list[Since], title: str, subtitle: str) -> Figure:
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
    return {
        f"{one.until:,}": {"learning": one.change.figures(), "stopped": other.change.figures()}
        for one, other in zip(learning, stopped, strict=False)
        if one.until > 0
    }
