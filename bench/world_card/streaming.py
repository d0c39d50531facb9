"""Skips of listeners of the model `streaming` and those in Spotify's sample, by position, hour and context."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from botify.analytics.chart_style import CONTROL, HEIGHT, MUTED, PALETTE, WIDTH, styled
from botify.bench.figures import table
from botify.bench.world_card.policies import ByGroup
from botify.core.keyed_random import mix
from botify.sim.listeners.botify import CONTEXTS, HOUR, HOUR_MS, POSITION, SKIPPED_BELOW, contexts
from botify.sim.listeners.model import Floats
from botify.sim.options import RunOptions
from botify.sim.play import play_listens
from botify.sim.world.model import World

SOURCE = "Spotify, Music Streaming Sessions Dataset (Brost et al., WWW 2019), published sample: share of skipped tracks"
BY_POSITION = (  # 1 to 20
    0.3773, 0.4760, 0.5054, 0.5297, 0.5315, 0.5427, 0.5397, 0.5405, 0.5318, 0.5164,
    0.5079, 0.5295, 0.5292, 0.5344, 0.5293, 0.5295, 0.5299, 0.5325, 0.5357, 0.5464,
)  # fmt: skip
BY_HOUR = (  # 0 to 23
    0.5183, 0.5207, 0.5489, 0.5390, 0.5189, 0.5027, 0.4668, 0.4996, 0.5013, 0.4794, 0.4939, 0.5162,
    0.5237, 0.5135, 0.5135, 0.5027, 0.5122, 0.5307, 0.5258, 0.5171, 0.5316, 0.5244, 0.5311, 0.5314,
)  # fmt: skip
BY_CONTEXT = dict(zip(CONTEXTS, (0.4565, 0.5551, 0.5082, 0.4523, 0.5537, 0.5464), strict=True))

WITHIN = {"position": 0.02, "hour": 0.03, "context": 0.03}


class Point(NamedTuple):
    """A published share of skips, and the measured one; `is_fitted` if a term of the model was fitted to it."""

    group: str
    name: str
    target: float
    measured: float
    is_fitted: bool

    @property
    def apart(self) -> float:
        return abs(self.measured - self.target)

    @property
    def holds(self) -> bool:
        return self.apart <= WITHIN[self.group]


def measure_skips(world: World, seed: int, days: float) -> dict[str, Floats]:
    """Serve the listeners of a world with `sticky_artist` for some days, and return the shares of skips by group."""
    options = RunOptions(days=days, seed=seed, start_ms=0, model="streaming")
    heard = play_listens(world, ByGroup(world.catalogue.artist_of, seed), options)
    skipped = heard.fractions < SKIPPED_BELOW
    places = {
        "position": (heard.positions, len(BY_POSITION)),
        "hour": (heard.time_ms // HOUR_MS % 24, len(BY_HOUR)),
        "context": (contexts(mix(seed, heard.users, heard.ordinals)), len(CONTEXTS)),
    }
    return {
        group: np.bincount(of, skipped, count)[:count] / np.bincount(of, minlength=count)[:count]
        for group, (of, count) in places.items()
    }


def points_of(shares: Mapping[str, Floats]) -> list[Point]:
    columns: Sequence[tuple[str, Sequence[str], Sequence[float], Sequence[bool]]] = (
        ("position", [str(p) for p in range(1, 21)], BY_POSITION, [p in POSITION for p in range(1, 21)]),
        ("hour", [str(h) for h in range(24)], BY_HOUR, [h % (24 // len(HOUR)) == 0 for h in range(24)]),
        ("context", CONTEXTS, list(BY_CONTEXT.values()), [True] * len(CONTEXTS)),
    )
    return [
        Point(group, name, target, float(measured), fitted)
        for group, names, targets, is_fitted in columns
        for name, target, measured, fitted in zip(names, targets, shares[group], is_fitted, strict=True)
    ]


def streaming_table(points: Sequence[Point]) -> Table:
    cells = []
    for point in points:
        shares = f"{point.target:.3f}", f"{point.measured:.3f}", f"{point.measured - point.target:+.3f}"
        marks = "yes" if point.is_fitted else "no", "yes" if point.holds else "[red]no[/]"
        cells.append((f"{point.group} {point.name}", *shares, *marks))
    title = f"Share of skipped tracks: {sum(point.holds for point in points)} of {len(points)} within tolerance"
    headings = ("", "published", "here", "difference", "fitted", "within")
    return table(title, headings, cells, words=("", "fitted", "within"), caption=SOURCE)


def streaming_figures(points: Sequence[Point]) -> Mapping[str, Any]:
    """Return the points as figures, and for each group the largest difference."""
    figures = {}
    for group, tolerance in WITHIN.items():
        of_group = [one for one in points if one.group == group]
        held_out = [one for one in of_group if not one.is_fitted]
        figures[group] = {
            "points": len(of_group),
            "fitted": len(of_group) - len(held_out),
            "within": sum(one.holds for one in of_group),
            "largest": max(one.apart for one in of_group),
            "largest_held_out": max((one.apart for one in held_out), default=None),
            "tolerance": tolerance,
        }
    return figures


@styled
def draw_skips(points: Sequence[Point]) -> Figure:
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
