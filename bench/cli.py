"""`botify bench`: how good recommenders are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from analytics.plots.style import png
from bench.recommenders.measure import ORACLE, Measured
from bench.recommenders.report import CONTROL, Runs, draw_curve, learning_curve, rows_of, table_of
from bench.recommenders.runs import FROM_LISTS, Task, measure_all
from schemas.errors import BotifyError
from schemas.settings import Settings
from services.recommender.mix import POLICIES
from sim.options import RunOptions
from sim.world import WorldConfig

FOLDER = Path(__file__).parent
RECOMMENDERS = ("random", "toppop", CONTROL, "sticky_artist_mixed", *FROM_LISTS, *POLICIES, "mix", ORACLE)
CURVES = ("random", CONTROL, *POLICIES, "mix", ORACLE)
"""What the picture shows, where it was run."""

console = Console()
app = typer.Typer(help="Measure recommenders.", no_args_is_help=True)

Sessions = Annotated[int, typer.Option(min=100, help="Sessions of each run.")]
Seeds = Annotated[list[int], typer.Option("--seed", help="Give it several times for several runs of each.")]
Jobs = Annotated[int, typer.Option(min=1, help="Processes side by side.")]
World = Annotated[Path | None, typer.Option(help="TOML file with settings of the world.")]


class BenchError(BotifyError):
    """The bench cannot do what is asked."""


@app.callback()
def bench() -> None:
    """Measure recommenders."""


@app.command()
def recommenders(
    only: Annotated[
        str | None, typer.Option(help=f"Some of them, with commas; {CONTROL} comes along. All by default.")
    ] = None,
    sessions: Sessions = 20_000,
    seed: Seeds = [1],  # noqa: B006 - typer copies it
    jobs: Jobs = 2,
    world: World = None,
    out: Annotated[Path, typer.Option(help="Where the figures go.")] = FOLDER / "recommenders.json",
    picture: Annotated[Path, typer.Option(help="Where the learning curve goes.")] = FOLDER / "recommenders.png",
) -> None:
    """Run each recommender on a world of its own, the same for all, with everybody on it, from an empty model."""
    names = _names(only)
    config = WorldConfig() if world is None else WorldConfig.from_toml(world)
    tasks = [Task(name, config, RunOptions(sessions=sessions, seed=one, start_ms=0)) for name in names for one in seed]
    runs = _run(tasks, jobs)
    rows = rows_of(runs)
    title = f"{sessions:,} sessions{'' if len(seed) == 1 else f' × {len(seed)} seeds'}, {config.tracks:,} tracks"
    console.print(table_of(rows, title))
    out.write_text(json.dumps([row.to_json() for row in rows], indent=2) + "\n", encoding="utf-8")
    shown = [name for name in CURVES if name in runs]
    figure = draw_curve(
        learning_curve(runs, shown),
        "What recommenders learn while they serve",
        f"time per session against {CONTROL} on the same sessions, with 95 % intervals",
    )
    picture.write_bytes(png(figure))
    console.print(f"written to {out} and {picture}", soft_wrap=True)


def _names(only: str | None) -> list[str]:
    if only is None:
        return list(RECOMMENDERS)
    wanted = [name.strip() for name in only.split(",")]
    if unknown := [name for name in wanted if name not in RECOMMENDERS]:
        raise BenchError(f"there is no recommender {unknown[0]!r} to measure; there are {', '.join(RECOMMENDERS)}")
    return list(dict.fromkeys([CONTROL, *wanted]))


def _run(tasks: list[Task], jobs: int) -> Runs:
    """Measure while the terminal shows how far it is."""
    found: dict[Task, Measured] = {}
    with console.status("") as status:
        status.update(f"0 of {len(tasks)} runs")
        for task, measured in measure_all(Settings.from_env().home, tasks, jobs):
            found[task] = measured
            status.update(f"{len(found)} of {len(tasks)} runs; {task.name} is the last that was done")
    runs: dict[str, list[Measured]] = {}
    for task in tasks:
        runs.setdefault(task.name, []).append(found[task])
    return runs


if __name__ == "__main__":
    app()
