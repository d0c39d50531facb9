"""`python -m botify.bench.studies grade`: the course's homework, from the start of its servers to `ab_result.json`."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from botify.bench.course.grade import (
    EDITIONS,
    PRIMARY,
    CourseError,
    Edition,
    Graded,
    ab_result,
    grade_once,
    models_for,
    prepare,
    reproducibility,
    require_recommender,
    write,
)
from botify.bench.figures import Record, record_command, table
from botify.bench.online import require_disk
from botify.bench.yardsticks import times_of_yardsticks
from botify.core.cli import Bar, Json, print_json, progress
from botify.core.settings import Settings
from botify.sim.options import RunOptions
from botify.sim.play import Progress
from botify.sim.world import World, find_world

RUNS = 2  # the course runs each homework twice, to see whether it can be reproduced

console = Console()
if not console.is_terminal:
    console.width = 110


def grade(
    recommender: Annotated[str, typer.Option(help="Recommender to grade, by its name in the registry.")],
    edition: Annotated[
        int, typer.Option(help="Edition of the homework: 2022 (control sticky_artist) or 2026 (control i2i).")
    ] = 2026,
    episodes: Annotated[int, typer.Option(min=100, help="Number of sessions in each run.")] = 30_000,
    seed: Annotated[int, typer.Option(help="Random seed of the listeners.")] = 31_312,
    log_episodes: Annotated[
        int, typer.Option(min=0, help="Number of sessions under the control before each run, from which models learn.")
    ] = 0,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Recommendations a second; default: as many as are answered.")
    ] = None,
    world: Annotated[
        str | None, typer.Option(help="Name or directory of another world; default: the one of the edition.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for run1/ab_result.json, run2/ab_result.json and repro_result.json.")
    ] = Path("course-grade"),
    as_json: Json = False,
    keep: Record = None,
) -> None:
    """Run control and recommender twice on new stacks, and compare them as the course does.

    The exit status is 1 if the effects of both runs differ in sign, or by more than 10 points.
    """
    if edition not in EDITIONS:
        raise CourseError(f"edition {edition}: choose {' or '.join(map(str, EDITIONS))}")
    of = EDITIONS[edition]
    require_recommender(recommender, of.control)
    options = RunOptions(sessions=episodes, seed=seed, rate=rate)
    require_disk(log_episodes + episodes)
    prepare(out, RUNS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: servers are stopped, data is removed
    with progress("opening the world") as status:
        opened = find_world(Settings.from_env().home, world or of.world)
        status.update("measuring the oracle")
        yardsticks = times_of_yardsticks(opened, seed)
        graded = _run_all(opened, of, recommender, options, log_episodes, status)
    runs = [one.to_json(yardsticks) for one in graded]
    agreement = reproducibility(*runs)
    about = {
        "recommender": recommender, "control": of.control, "edition": edition, "world": world or of.world,
        "log_episodes": log_episodes, "episodes": episodes, "rate": rate, "seed": seed, "yardsticks": yardsticks,
    }  # fmt: skip
    paths = write(out, [ab_result(one.results) for one in graded], agreement)
    if as_json:
        print_json({**about, "runs": runs, "reproducibility": agreement})
    else:
        _show(about, graded, agreement, paths)
    if keep:
        record_command({keep: {recommender: figures_of(graded, yardsticks, agreement)}})
    if not agreement["ok"]:
        raise typer.Exit(1)


def _run_all(
    world: World, edition: Edition, recommender: str, options: RunOptions, log_episodes: int, status: Bar
) -> list[Graded]:
    models = models_for(world, edition, recommender, status.update)
    graded = []
    for number in range(1, RUNS + 1):

        def notify(step: str, number: int = number) -> None:
            status.update(f"run {number} of {RUNS}: {step}")

        def progress(done: Progress, notify: Any = notify) -> None:
            per_s = done.recommendations / max(done.wall_s, 1e-9)
            notify(f"{done.sessions:,} sessions, {per_s:,.0f} recommendations/s")

        graded.append(grade_once(world, edition.control, recommender, options, models, log_episodes, notify, progress))
    return graded


def figures_of(
    graded: Sequence[Graded], yardsticks: Mapping[str, float], agreement: Mapping[str, Any]
) -> dict[str, float | str | None]:
    effects = {effect.metric: effect for effect in graded[0].results.effects}
    time, tracks = effects[PRIMARY], effects["mean_tracks_per_session"]
    return {
        "episodes": graded[0].run.sessions,
        "effect": time.effect,
        "lower": time.lower,
        "upper": time.upper,
        "time": time.treatment_mean,
        "control_time": time.control_mean,
        "tracks": tracks.treatment_mean,
        "control_tracks": tracks.control_mean,
        **graded[0].gap(yardsticks).figures(),
        **yardsticks,
        "second_effect": agreement["run2_effect"],
        "apart": agreement["delta"],
        "seconds": sum(one.run.wall_s for one in graded),
    }


def _show(
    about: Mapping[str, Any], graded: Sequence[Graded], agreement: Mapping[str, Any], paths: Sequence[Path]
) -> None:
    console.print(table_of(about, graded))
    known = ", ".join(f"{name} {time:.2f}" for name, time in about["yardsticks"].items())
    console.print(f"time a session of what knows the hidden: {known}", soft_wrap=True)
    for number, one in enumerate(graded, 1):
        others = {name: share for name, share in one.answered_by.items() if name != about["recommender"]}
        if others:
            shares = ", ".join(f"{name} {share:.1%}" for name, share in others.items())
            console.print(f"[yellow]run {number}: fallbacks answered for {about['recommender']}:[/] {shares}")
        if one.run.timed_out:
            console.print(f"[yellow]run {number}: {one.run.timed_out:,} sessions got no answer[/]")
    console.print(agreement["verdict"] if agreement["ok"] else f"[bold red]{agreement['verdict']}[/]", soft_wrap=True)
    console.print(f"written to {', '.join(map(str, paths))}", soft_wrap=True)


def table_of(about: Mapping[str, Any], graded: Sequence[Graded]) -> Table:
    title = (
        f"{about['recommender']} against {about['control']}, edition {about['edition']}, world {about['world']}: "
        f"{about['episodes']:,} episodes, seed {about['seed']}"
    )
    headings = ("run", "metric", "control", "treated", "effect %", "95 % interval", "sig.", "regret %", "closed %")
    rows = []
    for number, one in enumerate(graded, 1):
        for effect in one.results.effects:
            if effect.metric in (PRIMARY, "mean_tracks_per_session"):
                means = f"{effect.control_mean:.3f}", f"{effect.treatment_mean:.3f}"
                shown = f"{effect.effect:+.1f}", f"{effect.lower:+.1f} … {effect.upper:+.1f}"
                gap = one.gap(about["yardsticks"]).cells() if effect.metric == PRIMARY else ("", "")
                rows.append((str(number), effect.metric, *means, *shown, "yes" if effect.significant else "no", *gap))
    return table(title, headings, rows, words=("metric", "sig."))
