"""`botify bench`: recommenders on simulated listeners."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from botify.bench.figures import Record, record_command
from botify.bench.online import LAST, measure_online
from botify.bench.online import table_of as table_of_windows
from botify.bench.report import CONTROL, WIDTH, rows_of, table_of
from botify.bench.simulated import Measured, Task, measure_all
from botify.bench.yardsticks import YARDSTICKS
from botify.core.cli import Json, print_json, progress, say
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.listeners import MODELS
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import NAMED, World, WorldConfig, find_world, open_world
from botify.sim.world.config import DEFAULT_NAME

console = Console()
if not console.is_terminal:
    console.width = WIDTH
FLAGSHIP = "botify"
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
    elif control != CONTROL or rate is not None:
        raise BenchError(f"--control and --rate are for --online; in process the control is {CONTROL}")
    else:
        _bench_copies(recommenders, sessions or 20_000, skip, seed, jobs, world, model, record, as_json=as_json)


def _bench_copies(
    only: str | None,
    sessions: int,
    skip: int,
    seed: Sequence[int],
    jobs: int,
    world: str | None,
    model: str,
    record: str | None,
    *,
    as_json: bool,
) -> None:
    if skip >= sessions:
        raise BenchError(f"--skip {skip:,} leaves none of the {sessions:,} sessions to compare")
    names = [CONTROL, *only.split(",")] if only else measurable()
    known = dict.fromkeys(_known(name.strip(), measurable()) for name in names)
    stored, opened = _opened(world)
    options = [RunOptions(sessions=sessions, seed=one, start_ms=0, model=model) for one in seed]
    tasks = [Task(name, stored, of_seed) for name in known for of_seed in options]
    found = _measured(tasks, jobs)
    runs: dict[str, list[Measured]] = {}
    for task in tasks:
        runs.setdefault(task.name, []).append(found[task].after(skip))
    rows = rows_of(runs)
    left_out = f" but the first {skip:,}" if skip else ""
    seeds = "" if len(seed) == 1 else f" × {len(seed)} seeds"
    title = f"{sessions:,} sessions{left_out}{seeds}, {len(opened.catalogue):,} tracks"
    if as_json:
        print_json({row.name: row.figures() for row in rows})
    else:
        console.print(table_of(rows, title))
    if record:
        record_command({record: {row.name: row.figures() for row in rows}})


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

        result = measure_online(opened, control, names, options, report)
    if as_json:
        print_json({"windows": result.figures(), "run": result.totals()})
    else:
        title = f"against {control}, seed {options.seed}; the last row has the last {LAST:,} sessions"
        console.print(table_of_windows(result.windows(), title, control))
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


def _measured(tasks: list[Task], jobs: int) -> dict[Task, Measured]:
    """Measure, and show the progress on the terminal."""
    found: dict[Task, Measured] = {}
    with progress("measuring", len(tasks)) as bar:
        for task, measured in measure_all(Settings.from_env().home, tasks, jobs):
            found[task] = measured
            bar.to(len(found), doing=f"measuring; {task.name} was the last to finish")
    return found
