"""`botify world card`: published figures beside what a world gives."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from botify.analytics.plots.style import CONTROL, HEIGHT, MUTED, PALETTE, WIDTH, png, styled
from botify.bench.figures import fill_pages, record
from botify.bench.world_card.course import EDITIONS, Measured, measure_course
from botify.bench.world_card.fitted import draw_fitted, fitted_figures, fitted_rows, fitted_table, logs_of
from botify.bench.world_card.streaming import SOURCE, WITHIN, Point, measure_skips, points_of
from botify.core.cli import Json, print_json, progress
from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.ingest.reading import open_dataset
from botify.sim.world import find_world
from botify.sim.world.config import DEFAULT_NAME

console = Console()
if not console.is_terminal:
    console.width = 150
DAYS = 14.0
"""Event time in which skips are counted: a hundred thousand listens in the hours of the night."""


def card(
    model: Annotated[str, typer.Option(help="Listener model: botify (the course's) or streaming.")] = "botify",
    edition: Annotated[int, typer.Option(help="Edition of the course, 2022 or 2026, for --model botify.")] = 2022,
    world: Annotated[
        str | None, typer.Option(help="Name or directory of a world; default: the one of the edition.")
    ] = None,
    seed: Annotated[list[int], typer.Option("--seed", help="Simulation seed; repeat it for means of several.")] = [1],  # noqa: B006 - typer copies it
    picture: Annotated[Path | None, typer.Option(help="PNG file, with --model streaming or a fitted world.")] = None,
    keep: Annotated[
        str | None,
        typer.Option("--record", help="Write the figures to docs/figures.json under this name, and into the pages."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print published figures beside those that a world gives, and say which are within the tolerance.

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
            table, figures = (
                course_table(rows, f"The course's edition of {edition}, world {name}"),
                course_figures(rows),
            )
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
        record(keep, shlex.join(["botify", *sys.argv[1:]]), figures)
        fill_pages()


def course_table(rows: Sequence[Measured], title: str) -> Table:
    """Return the rows as a table."""
    met = sum(row.holds for row in rows)
    table = Table(title=f"{title}: {met} of {len(rows)} within tolerance")
    for heading in ("", "source", "published", "here", "within"):
        table.add_column(heading, justify="right" if heading in ("published", "here") else "left")
    for measured in rows:
        row = measured.row
        shown = f"{measured.mean:+.1f} %" if row.unit else f"{measured.mean:.2f}"
        table.add_row(row.title, row.source, row.target, shown, "yes" if measured.holds else "[red]no[/]")
    return table


def course_figures(rows: Sequence[Measured]) -> Mapping[str, Any]:
    """Return the rows as figures, by title."""
    return {
        row.row.title: {
            "source": row.row.source,
            "target": row.row.target,
            "measured": f"{row.mean:+.1f} %" if row.row.unit else f"{row.mean:.2f}",
            "mean": row.mean,
            "within": "yes" if row.holds else "no",
        }
        for row in rows
    }


def streaming_table(points: Sequence[Point]) -> Table:
    """Return the points as a table."""
    met = sum(point.holds for point in points)
    table = Table(title=f"Share of skipped tracks: {met} of {len(points)} within tolerance", caption=SOURCE)
    for heading in ("", "published", "here", "difference", "fitted", "within"):
        table.add_column(heading, justify="left" if heading in ("", "fitted", "within") else "right")
    for point in points:
        difference = f"{point.measured - point.target:+.3f}"
        fitted, within = "yes" if point.is_fitted else "no", "yes" if point.holds else "[red]no[/]"
        name = f"{point.group} {point.name}"
        table.add_row(name, f"{point.target:.3f}", f"{point.measured:.3f}", difference, fitted, within)
    return table


def streaming_figures(points: Sequence[Point]) -> Mapping[str, Any]:
    """Return the points as figures, and for each group the largest difference."""
    return {
        group: {
            "points": sum(one.group == group for one in points),
            "fitted": sum(one.group == group and one.is_fitted for one in points),
            "within": sum(one.group == group and one.holds for one in points),
            "largest": max(abs(one.measured - one.target) for one in points if one.group == group),
            "largest_held_out": max(
                (abs(one.measured - one.target) for one in points if one.group == group and not one.is_fitted),
                default=None,
            ),
            "tolerance": tolerance,
        }
        for group, tolerance in WITHIN.items()
    }


@styled
def draw_skips(points: Sequence[Point]) -> Figure:
    """Draw the published shares and the measured ones side by side, by position, hour and context."""
    figure = Figure(figsize=(WIDTH, 2 * HEIGHT), layout="constrained")
    figure.suptitle("Listeners skip as in Spotify's sample", x=0.01, ha="left", weight="bold", color=PALETTE[0])
    for place, (group, axes) in enumerate(zip(WITHIN, figure.subplots(3), strict=True)):
        of_group = [point for point in points if point.group == group]
        names = [point.name.replace("_", "\n") for point in of_group]
        axes.plot(names, [point.target for point in of_group], color=CONTROL, label="published")
        for fitted, mark in ((True, "o"), (False, "D")):
            shown = [(n, p.measured) for n, p in zip(names, of_group, strict=True) if p.is_fitted == fitted]
            if shown:
                label = "here, fitted" if fitted else "here, between two fitted"
                axes.plot(*zip(*shown, strict=True), mark, color=PALETTE[0 if fitted else 1], label=label)
        axes.set_ylim(0.35, 0.6)
        axes.set_title(f"share of skipped tracks by {group}, tolerance {WITHIN[group]}", color=MUTED, loc="left")
        if place == 0:
            axes.legend(loc="lower right")
    return figure
