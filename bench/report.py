"""Tables of recommenders on the same sessions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from botify.bench.figures import table
from botify.bench.simulated import Measured
from botify.bench.yardsticks import ORACLE, Gap
from botify.core.welch import Mean, ratio_interval

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
