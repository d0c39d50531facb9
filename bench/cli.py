"""`botify bench`: recommenders on the same sessions of simulated listeners, and their table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from botify.bench import online as through_kafka
from botify.bench.figures import Record, record_command, table
from botify.bench.simulated import Measured, Task, measure_all
from botify.bench.yardsticks import ORACLE, YARDSTICKS, Gap
from botify.core.cli import Json, print_json, progress, say
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.core.welch import Mean, ratio_interval
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.listeners import MODELS
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import NAMED, World, WorldConfig, find_world, open_world
from botify.sim.world.config import DEFAULT_NAME

CONTROL = "sticky_artist"
FLAGSHIP = "botify"
console = Console()
if not console.is_terminal:
    console.width = 125
WorldOption = Annotated[
    str | None,
    typer.Option(
        help=f"World: {', '.join(NAMED)}, a stored one's name or directory, or a TOML file with settings; "
        "default: the default world."
    ),
]


class BenchError(BotifyError):
    """The options do not fit each other, or name an unknown recommender."""


def bench(
    recommenders: Annotated[
        str | None,
        typer.Argument(help=f"Comma-separated names; default: all, with --online {FLAGSHIP}.", show_default=False),
    ] = None,
    online: Annotated[
        bool, typer.Option("--online", help="Share the listeners, through Kafka, Faust and Redis, on a new stack.")
    ] = False,
    control: Annotated[str, typer.Option(help="Recommender that the others are compared with.")] = CONTROL,
    sessions: Annotated[
        int | None, typer.Option(min=100, help="Sessions in each run; default: 20,000, with --online 100,000.")
    ] = None,
    skip: Annotated[int, typer.Option(min=0, help="Number of sessions at the start that the table leaves out.")] = 0,
    seed: Annotated[
        list[int], typer.Option("--seed", help="Random seed; repeat the option for several runs of each recommender.")
    ] = [1],  # noqa: B006 - typer copies it
    jobs: Annotated[int, typer.Option(min=1, help="Number of parallel processes.")] = 2,
    world: WorldOption = None,
    model: Annotated[str, typer.Option(help=f"Listener model: {', '.join(MODELS)}, or module:Class.")] = "botify",
    rate: Annotated[
        float | None,
        typer.Option(min=1.0, help="With --online: recommendations a second; default: as many as are answered."),
    ] = None,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Compare recommenders: each on an identical copy of the world, for all listeners, from an empty model."""
    if online:
        if len(seed) > 1 or skip:
            raise BenchError("--online is one run, and shows windows of its sessions: leave out --skip and other seeds")
        options = RunOptions(sessions=sessions or 100_000, seed=seed[0], model=model, rate=rate)
        _bench_online(recommenders or FLAGSHIP, control, options, world, record, as_json=as_json)
        return
    if control != CONTROL or rate is not None:
        raise BenchError(f"--control and --rate are for --online; in process the control is {CONTROL}")
    count = sessions or 20_000
    if skip >= count:
        raise BenchError(f"--skip {skip:,} leaves none of the {count:,} sessions to compare")
    names = [CONTROL, *recommenders.split(",")] if recommenders else measurable()
    known = dict.fromkeys(_known(name.strip(), measurable()) for name in names)
    stored, opened = _opened(world)
    options_of = [RunOptions(sessions=count, seed=one, start_ms=0, model=model) for one in seed]
    tasks = [Task(name, stored, of_seed) for name in known for of_seed in options_of]
    found: dict[Task, Measured] = {}
    with progress("measuring", len(tasks)) as bar:
        for task, measured in measure_all(Settings.from_env().home, tasks, jobs):
            found[task] = measured
            bar.to(len(found), doing=f"measuring; {task.name} was the last to finish")
    runs: dict[str, list[Measured]] = {}
    for task in tasks:
        runs.setdefault(task.name, []).append(found[task].after(skip))
    rows = rows_of(runs)
    figures = {row.name: row.figures() for row in rows}
    if as_json:
        print_json(figures)
    else:
        left_out = f" but the first {skip:,}" if skip else ""
        seeds = "" if len(seed) == 1 else f" × {len(seed)} seeds"
        console.print(table_of(rows, f"{count:,} sessions{left_out}{seeds}, {len(opened.catalogue):,} tracks"))
    if record:
        record_command({record: figures})


def _bench_online(
    treatments: str, control: str, options: RunOptions, world: str | None, record: str | None, *, as_json: bool
) -> None:
    names = list(dict.fromkeys(_known(name.strip(), list(RECOMMENDERS)) for name in treatments.split(",")))
    if _known(control, list(RECOMMENDERS)) in names:
        raise BenchError(f"{control} is the control; choose other recommenders as treatments")
    _, opened = _opened(world)
    with progress("simulating", options.sessions) as bar:

        def report(done: Progress) -> None:
            bar.to(done.sessions, doing=f"simulating, {done.listens / max(done.wall_s, 1e-9):,.0f} listens/s")

        result = through_kafka.measure_online(opened, control, names, options, report)
    if as_json:
        print_json({"windows": result.figures(), "run": result.totals()})
    else:
        last = f"the last row has the last {through_kafka.LAST:,} sessions"
        title = f"against {control}, seed {options.seed}; {last}"
        console.print(through_kafka.table_of(result.windows(), title, control))
        known = ", ".join(f"{name} {time:.2f}" for name, time in result.yardsticks.items())
        say(f"time a session of what knows the hidden: {known}", console)
        run, per_s = result.run, result.run.recommendations / result.run.wall_s
        answered = f"{run.recommendations:,} recommendations in {run.wall_s:.0f} s ({per_s:,.0f}/s)"
        say(f"{answered}, {run.timed_out:,} sessions timed out", console)
    if record:
        record_command({record: result.figures(), f"{record}_run": result.totals()})


def _opened(world: str | None) -> tuple[str, World]:
    """Return the name or directory by which processes find the world, and the world; it is generated at most once."""
    home, name = Settings.from_env().home, world or DEFAULT_NAME
    if Path(name).is_file():
        name = open_world(home, WorldConfig.from_toml(Path(name))).name
    return name, find_world(home, name)


def measurable() -> list[str]:
    """Return what `botify bench` can measure in process: recommenders that are served, and yardsticks."""
    return [*RECOMMENDERS, *YARDSTICKS]


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise BenchError(f"unknown recommender {name!r}; choose from {', '.join(names)}")
    return name


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


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))
