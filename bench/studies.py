"""Studies that few repeat: `python -m botify.bench.studies card | grade | whatif | import-log`."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from botify.analytics.botify_log import import_log
from botify.analytics.chart_style import png
from botify.bench import homework
from botify.bench.figures import Record, record_command, table
from botify.bench.homework import PRIMARY, CourseError, Graded, ab_result, grade_once, reproducibility
from botify.bench.online import require_disk
from botify.bench.whatif import whatif
from botify.bench.world_card.course import EDITIONS, course_figures, course_table, measure_course
from botify.bench.world_card.fit import console, fitted_figures, fitted_rows, fitted_table, logs_of
from botify.bench.world_card.streaming import (
    Point,
    draw_skips,
    measure_skips,
    points_of,
    streaming_figures,
    streaming_table,
)
from botify.bench.yardsticks import times_of_yardsticks
from botify.core.cli import Json, print_json, progress
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.ingest.dataset import open_dataset
from botify.services.cli import report_errors
from botify.sim.options import RunOptions
from botify.sim.world import find_world
from botify.sim.world.config import DEFAULT_NAME

DAYS = 14.0  # event time in which skips are counted: a hundred thousand listens in the hours of the night
RUNS = 2  # the course runs each homework twice, to see whether it can be reproduced

app = typer.Typer(help="Studies of worlds and models, and of the course.", no_args_is_help=True)
app.command()(whatif)
app.command("import-log")(import_log)


@app.command()
def card(
    model: Annotated[str, typer.Option(help="Listener model: botify (the course's) or streaming.")] = "botify",
    edition: Annotated[int, typer.Option(help="Edition of the course, 2022 or 2026, for --model botify.")] = 2022,
    world: Annotated[
        str | None, typer.Option(help="Name or directory of a world; default: the one of the edition.")
    ] = None,
    seed: Annotated[list[int], typer.Option("--seed", help="Simulation seed; repeat it for means of several.")] = [1],  # noqa: B006 - typer copies it
    picture: Annotated[Path | None, typer.Option(help="PNG file, with --model streaming.")] = None,
    keep: Record = None,
    as_json: Json = False,
) -> None:
    """Compare published figures with those that a world gives, and say which are within the tolerance.

    A fitted world is compared with the half of the log's users that it was not fitted to.
    """
    if edition not in EDITIONS or model not in ("botify", "streaming"):
        raise BotifyError(f"edition {edition}, model {model!r}: choose 2022 or 2026, and botify or streaming")
    name = world or (EDITIONS[edition][0] if model == "botify" else DEFAULT_NAME)
    home = Settings.from_env().home
    points: list[Point] = []
    with progress("measuring"):
        opened = find_world(home, name)
        if model == "botify" and "fitted" in opened.about:
            compared = fitted_rows(logs_of(opened, open_dataset(home, opened.about["fitted"]["dataset"]), seed))
            shown, figures = fitted_table(compared, opened), fitted_figures(compared)
        elif model == "botify":
            rows = measure_course(opened, edition, seed)
            title = f"The course's edition of {edition}, world {name}"
            shown, figures = course_table(rows, title), course_figures(rows)
        else:
            points = points_of(measure_skips(opened, seed[0], DAYS))
            shown, figures = streaming_table(points), streaming_figures(points)
    if as_json:
        print_json(figures)
    else:
        console.print(shown)
    if picture is not None and not points:
        raise BotifyError("--picture draws skips by place: --model streaming")
    if picture is not None:
        picture.write_bytes(png(draw_skips(points)))
        console.print(f"written to {picture}", soft_wrap=True)
    if keep:
        record_command({keep: figures})


@app.command()
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
    if edition not in homework.EDITIONS:
        raise CourseError(f"edition {edition}: choose {' or '.join(map(str, homework.EDITIONS))}")
    of = homework.EDITIONS[edition]
    homework.require_recommender(recommender, of.control)
    options = RunOptions(sessions=episodes, seed=seed, rate=rate)
    require_disk(log_episodes + episodes)
    homework.prepare(out, RUNS)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: servers are stopped, data is removed
    with progress("opening the world") as status:

        def notify(number: int, step: str) -> None:
            status.to(number - 1, RUNS, f"run {number} of {RUNS}: {step}")

        opened = find_world(Settings.from_env().home, world or of.world)
        status.to(0, doing="measuring the oracle")
        yardsticks = times_of_yardsticks(opened, seed)
        models = homework.models_for(opened, of, recommender, lambda step: status.to(0, doing=step))
        graded = [
            grade_once(opened, of.control, recommender, options, models, log_episodes, partial(notify, number))
            for number in range(1, RUNS + 1)
        ]
    runs = [one.to_json(yardsticks) for one in graded]
    agreement = reproducibility(*runs)
    about = {
        "recommender": recommender, "control": of.control, "edition": edition, "world": world or of.world,
        "log_episodes": log_episodes, "episodes": episodes, "rate": rate, "seed": seed, "yardsticks": yardsticks,
    }  # fmt: skip
    paths = homework.write(out, [ab_result(one.results) for one in graded], agreement)
    if as_json:
        print_json({**about, "runs": runs, "reproducibility": agreement})
    else:
        _show(about, graded, agreement, paths)
    if keep:
        record_command({keep: {recommender: figures_of(graded, yardsticks, agreement)}})
    if not agreement["ok"]:
        raise typer.Exit(1)


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


if __name__ == "__main__":
    with report_errors():
        app(prog_name="python -m botify.bench.studies")
