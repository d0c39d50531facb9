"""`python -m botify.bench.studies card`: published figures, and what a world gives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from matplotlib.figure import Figure

from botify.analytics.chart_style import png
from botify.bench.figures import Record, record_command
from botify.bench.world_card.course import EDITIONS, course_figures, course_table, measure_course
from botify.bench.world_card.fit import console, draw_fitted, fitted_figures, fitted_rows, fitted_table, logs_of
from botify.bench.world_card.streaming import draw_skips, measure_skips, points_of, streaming_figures, streaming_table
from botify.core.cli import Json, print_json, progress
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.ingest.dataset import open_dataset
from botify.sim.world import find_world
from botify.sim.world.config import DEFAULT_NAME

DAYS = 14.0  # event time in which skips are counted: a hundred thousand listens in the hours of the night


def card(
    model: Annotated[str, typer.Option(help="Listener model: botify (the course's) or streaming.")] = "botify",
    edition: Annotated[int, typer.Option(help="Edition of the course, 2022 or 2026, for --model botify.")] = 2022,
    world: Annotated[
        str | None, typer.Option(help="Name or directory of a world; default: the one of the edition.")
    ] = None,
    seed: Annotated[list[int], typer.Option("--seed", help="Simulation seed; repeat it for means of several.")] = [1],  # noqa: B006 - typer copies it
    picture: Annotated[Path | None, typer.Option(help="PNG file, with --model streaming or a fitted world.")] = None,
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
    drawn: Callable[[], Figure] | None = None
    with progress("measuring"):
        opened = find_world(home, name)
        if model == "botify" and "fitted" in opened.about:
            logs = logs_of(opened, open_dataset(home, opened.about["fitted"]["dataset"]), seed)
            compared = fitted_rows(logs)
            table, figures = fitted_table(compared, opened), fitted_figures(compared)
            drawn = partial(draw_fitted, logs, opened)
        elif model == "botify":
            rows = measure_course(opened, edition, seed)
            title = f"The course's edition of {edition}, world {name}"
            table, figures = course_table(rows, title), course_figures(rows)
        else:
            points = points_of(measure_skips(opened, seed[0], DAYS))
            table, figures = streaming_table(points), streaming_figures(points)
            drawn = partial(draw_skips, points)
    if as_json:
        print_json(figures)
    else:
        console.print(table)
    if drawn is not None and picture is not None:
        picture.write_bytes(png(drawn()))
        console.print(f"written to {picture}", soft_wrap=True)
    if keep:
        record_command({keep: figures})
