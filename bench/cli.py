"""`botify bench`: compare recommenders on simulated listeners."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console

from botify.analytics.plots.style import png
from botify.bench.decisions import measure_decisions, simulated_listeners
from botify.bench.decisions import table_of as table_of_decisions
from botify.bench.figures import fill_pages
from botify.bench.figures import record as record_figures
from botify.bench.online import Online, measure_online
from botify.bench.online import table_of as table_of_windows
from botify.bench.recommenders.lists import SASREC
from botify.bench.recommenders.measure import Measured, Task, measure_all
from botify.bench.recommenders.report import (
    CONTROL,
    LEARNING,
    STOPPED,
    WIDTH,
    WINDOW,
    draw_curve,
    draw_drift,
    drift_figures,
    drift_table,
    drift_tasks,
    learning_curve,
    rows_of,
    table_of,
    windows_since,
)
from botify.bench.recommenders.yardsticks import YARDSTICKS
from botify.core.cli import Json, print_json, progress, say
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.evaluation import MissingPeerError
from botify.evaluation.rankers.registry import require_peer
from botify.services.recommender.bandit import POLICIES
from botify.services.recommender.registry import RECOMMENDERS
from botify.sim.listeners import MODELS
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import NAMED, World, WorldConfig, find_world, open_world
from botify.sim.world.config import DEFAULT_NAME

CHECKOUT = Path(__file__).resolve().parents[1]
FOLDER = CHECKOUT / "bench" if (CHECKOUT / "pyproject.toml").is_file() else Path()
"""Where files are written by default: never into an installed package."""

CURVES = ("random", CONTROL, *POLICIES, "fism", "mix", *YARDSTICKS)
"""Recommenders in the picture, if they were measured."""

console = Console()
if not console.is_terminal:
    console.width = WIDTH
_messages = Console(stderr=True)
app = typer.Typer(help="Compare recommenders on simulated listeners.", no_args_is_help=True)

Sessions = Annotated[int, typer.Option(min=100, help="Number of sessions in each run.")]
Seeds = Annotated[
    list[int], typer.Option("--seed", help="Random seed; repeat the option for several runs of each recommender.")
]
Jobs = Annotated[int, typer.Option(min=1, help="Number of parallel processes.")]
WorldOption = Annotated[
    str | None,
    typer.Option(
        help=f"World: {', '.join(NAMED)}, a stored one's name or directory, or a TOML file with settings; "
        "default: the default world."
    ),
]
Record = Annotated[
    str | None, typer.Option(help="Write the figures to docs/figures.json under this name, and into the pages.")
]


class BenchError(BotifyError):
    """The options do not fit each other, or name an unknown recommender."""


@app.callback()
def bench() -> None:
    """Compare recommenders on simulated listeners."""


@app.command()
def recommenders(
    only: Annotated[
        str | None, typer.Option(help=f"Comma-separated names; {CONTROL} is always included. Default: all.")
    ] = None,
    sessions: Sessions = 20_000,
    skip: Annotated[int, typer.Option(min=0, help="Number of sessions at the start that the table leaves out.")] = 0,
    seed: Seeds = [1],  # noqa: B006 - typer copies it
    jobs: Jobs = 2,
    world: WorldOption = None,
    model: Annotated[str, typer.Option(help=f"Listener model: {', '.join(MODELS)}, or module:Class.")] = "botify",
    out: Annotated[
        Path, typer.Option(help="JSON file for the figures.", show_default="bench/recommenders.json")
    ] = FOLDER / "recommenders.json",
    picture: Annotated[
        Path, typer.Option(help="PNG file for the learning curve.", show_default="bench/recommenders.png")
    ] = FOLDER / "recommenders.png",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Run each recommender on an identical copy of the world, for all listeners, from an empty model."""
    names = _names(only)
    stored, opened = _opened(world)
    options = [RunOptions(sessions=sessions, seed=one, start_ms=0, model=model) for one in seed]
    tasks = [Task(name, stored, of_seed) for name in names for of_seed in options]
    found = _measured(tasks, jobs)
    runs: dict[str, list[Measured]] = {}
    for task in tasks:
        runs.setdefault(task.name, []).append(found[task])
    if skip >= sessions:
        raise BenchError(f"--skip {skip:,} leaves none of the {sessions:,} sessions to compare")
    rows = rows_of({name: [run.after(skip) for run in of_seeds] for name, of_seeds in runs.items()})
    left_out = f" but the first {skip:,}" if skip else ""
    seeds = "" if len(seed) == 1 else f" × {len(seed)} seeds"
    title = f"{sessions:,} sessions{left_out}{seeds}, {len(opened.catalogue):,} tracks"
    if as_json:
        print_json({row.name: row.figures() for row in rows})
    else:
        console.print(table_of(rows, title))
    out.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    say(f"written to {out}", _messages)
    curve = learning_curve(runs, [name for name in CURVES if name in runs])
    subtitle = f"time per session against {CONTROL} on the same sessions, with 95 % intervals"
    _draw(draw_curve(curve, "What recommenders learn while they serve", subtitle), picture)
    if record:
        _record({record: {row.name: row.figures() for row in rows}})


@app.command()
def drift(
    recommender: Annotated[str, typer.Option(help="A recommender that learns from the stream.")] = "mix",
    users: Annotated[
        int, typer.Option(min=500, help="Number of listeners; each has one session a day for twenty days.")
    ] = 2_000,
    seed: Annotated[int, typer.Option(help="Random seed of the listeners.")] = 1,
    world: WorldOption = None,
    picture: Annotated[Path, typer.Option(help="PNG file for the curves.", show_default="bench/drift.png")] = FOLDER
    / "drift.png",
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Compare an online model with a frozen one after half of the catalogue changes overnight."""
    tasks = drift_tasks(_known(recommender, list(RECOMMENDERS)), _opened(world)[0], users, seed)
    found = _measured(list(tasks.values()), jobs=2)
    learning, stopped = (windows_since(found[tasks[name]]) for name in (LEARNING, STOPPED))
    if as_json:
        print_json(drift_figures(learning, stopped))
    else:
        console.print(drift_table(learning, stopped, f"{recommender}, half of the tracks turn; seed {seed}"))
    subtitle = f"time per session of {recommender}, in windows of {WINDOW:,} sessions, with 95 % intervals"
    _draw(draw_drift(learning, stopped, "A model that keeps learning recovers from a shift", subtitle), picture)
    if record:
        before = next(one.times.mean for one in learning if one.until == 0)
        _record({record: drift_figures(learning, stopped), f"{record}_run": {"time_before": before}})


@app.command()
def online(
    sessions: Sessions = 100_000,
    seed: Annotated[int, typer.Option(help="Random seed of the listeners.")] = 1,
    control: Annotated[str, typer.Option(help="Recommender that the treatments are compared with.")] = CONTROL,
    treatments: Annotated[str, typer.Option(help="Comma-separated recommenders to compare with the control.")] = "mix",
    share: Annotated[
        int, typer.Option(min=1, help="Listeners in each treatment for each listener in the control.")
    ] = 4,
    last: Annotated[
        int, typer.Option(min=1, help="Number of sessions at the end that are also compared as one window.")
    ] = 20_000,
    rate: Annotated[
        float | None,
        typer.Option(min=1.0, help="Recommendations a second.", show_default="as many as are answered"),
    ] = None,
    world: WorldOption = None,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Compare recommenders with a control through Kafka, Faust and Redis, on a new stack with empty models."""
    names = list(dict.fromkeys(_known(name.strip(), list(RECOMMENDERS)) for name in treatments.split(",")))
    if control in names:
        raise BenchError(f"{control} is the control; choose other recommenders as treatments")
    _, opened = _opened(world)
    with progress("simulating", sessions) as bar:

        def report(done: Progress) -> None:
            bar.to(done.sessions, doing=f"simulating, {done.listens / max(done.wall_s, 1e-9):,.0f} listens/s")

        result = measure_online(opened, _known(control, list(RECOMMENDERS)), names, share, sessions, seed, report, rate)
    if as_json:
        print_json({"windows": result.figures(last), "run": result.totals(last)})
    else:
        _show_online(result, last, f"against {control}, seed {seed}")
    if record:
        _record({record: result.figures(last), f"{record}_run": result.totals(last)})


@app.command()
def decisions(
    users: Annotated[int, typer.Option(min=500, help="Number of simulated listeners to draw from.")] = 4_000,
    days: Annotated[int, typer.Option(min=1, help="Days of each listener before the launch, and after it.")] = 14,
    seed: Annotated[int, typer.Option(help="Random seed of listeners and launches.")] = 1,
    world: WorldOption = None,
    record: Record = None,
    as_json: Json = False,
) -> None:
    """Decide 10,000 launches with known true effects: wrong ships, power, listeners and sessions needed."""
    _, opened = _opened(world)
    with progress("simulating listeners") as status:

        def report(done: Progress) -> None:
            status.update(f"simulating listeners: {done.sessions:,} sessions")

        listeners = simulated_listeners(opened, users, days, seed, report)
        status.update("deciding launches")
        found = measure_decisions(listeners, seed)
    if as_json:
        print_json(found._asdict())
    else:
        console.print(table_of_decisions(found))
    if record:
        _record({record: found.kinds, f"{record}_run": found.figures})


def _show_online(result: Online, last: int, title: str) -> None:
    console.print(table_of_windows([*result.windows(), *result.last(last)], title, result.control))
    known = ", ".join(f"{name} {time:.2f}" for name, time in result.yardsticks.items())
    run = result.run
    say(f"time a session of what knows the hidden: {known}", console)
    say(
        f"{run.recommendations:,} recommendations in {run.wall_s:.0f} s ({run.recommendations / run.wall_s:,.0f}/s), "
        f"{run.timed_out:,} sessions timed out",
        console,
    )


def _draw(figure: Figure, path: Path) -> None:
    path.write_bytes(png(figure))
    say(f"written to {path}", _messages)


def _record(groups: Mapping[str, Mapping[str, Any]]) -> None:
    for group, figures in groups.items():
        record_figures(group, shlex.join(["botify", *sys.argv[1:]]), figures)
    fill_pages()


def _opened(world: str | None) -> tuple[str, World]:
    """Return the name or directory by which processes find the world, and the world; it is generated at most once."""
    home, name = Settings.from_env().home, world or DEFAULT_NAME
    if Path(name).is_file():
        name = open_world(home, WorldConfig.from_toml(Path(name))).name
    return name, find_world(home, name)


def _names(only: str | None) -> list[str]:
    if only is not None:
        names = list(dict.fromkeys([CONTROL, *(_known(name.strip(), measurable()) for name in only.split(","))]))
        if SASREC in names:
            require_peer(SASREC)
        return names
    try:
        require_peer(SASREC)
    except MissingPeerError as error:
        console.print(f"[yellow]left out:[/] {error}", soft_wrap=True)
        return [name for name in measurable() if name != SASREC]
    return measurable()


def measurable() -> list[str]:
    """Return what `botify bench recommenders` can measure: those that are served, SASRec's lists and yardsticks."""
    return [*RECOMMENDERS, SASREC, *YARDSTICKS]


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


if __name__ == "__main__":
    app()
