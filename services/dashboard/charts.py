"""Charts as coordinates of an SVG, computed once for all viewers. Pure; `templates/macros.html` draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

WIDTH, HEIGHT = 600, 150
_TOP, _BOTTOM = 8, 4
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)

Bounds = tuple[float, float, float]  # an effect, and the lower and upper bound of its interval, in %


def nice_ceiling(value: float) -> float:
    """Return the smallest round number that is not below the value.

    Examples
    --------
    >>> nice_ceiling(1234.0), nice_ceiling(0.0)
    (1500.0, 1.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in _STEPS if value <= step * power * (1 + 1e-9))


class Line(NamedTuple):
    """A stretch without gaps: its points, and for the first series the polygon below it."""

    series: int
    points: str
    area: str


class LineChart(NamedTuple):
    """Lines over time; `top` is the value at the upper grid line, `grid` has the height of each grid line."""

    labels: tuple[str, ...]
    unit: str
    top: float
    grid: tuple[str, ...]
    lines: tuple[Line, ...]


def line_chart(series: Sequence[tuple[str, Sequence[float]]], unit: str, points: int) -> LineChart | None:
    """Return lines over time, of labels and values with the newest at the right; NaN is a gap, None means no values.

    The area below the first is filled; `points` is the number of values that the width has room for.

    Examples
    --------
    >>> line_chart([("listens", [5.0, 10.0])], "/s", 2).lines
    (Line(series=0, points='0.0,77.0 600.0,8.0', area='0.0,150 0.0,77.0 600.0,8.0 600.0,150'),)
    """
    finite = [value for _, values in series for value in values if not math.isnan(value)]
    if not finite:
        return None
    top = nice_ceiling(max(finite))
    lines = []
    for index, (_, values) in enumerate(series):
        for run in _runs(values, top, points):
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            area = f"{run[0][0]:.1f},{HEIGHT} {line} {run[-1][0]:.1f},{HEIGHT}" if index == 0 else ""
            lines.append(Line(index, line, area))
    grid = tuple(f"{_y(value, top):.1f}" for value in (top, top / 2))
    return LineChart(tuple(label for label, _ in series), unit, top, grid, tuple(lines))


class Interval(NamedTuple):
    """An interval around zero, which is at 50; positions and width are in % of the drawing's width."""

    side: str
    left: str
    width: str
    middle: str


def interval(bounds: Bounds, side: str, reach: float) -> Interval | None:
    """Return the drawing of an interval, None for one that is NaN; `reach` is the value at both ends."""
    if math.isnan(bounds[1]):
        return None
    middle, left, right = (50 + 50 * max(-1.0, min(1.0, value / reach)) for value in bounds)
    return Interval(side, f"{left:.1f}", f"{max(right - left, 0.6):.1f}", f"{middle:.1f}")


def _runs(values: Sequence[float], top: float, points: int) -> list[list[tuple[float, float]]]:
    """Return the stretches without a gap, as points of the drawing."""
    shown = values[-points:]
    first = points - len(shown)
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in enumerate(shown):
        if math.isnan(value):
            runs.append([])
        else:
            runs[-1].append(((first + at) * WIDTH / max(points - 1, 1), _y(value, top)))
    return [run for run in runs if run]


def _y(value: float, top: float) -> float:
    return _TOP + (1 - value / top) * (HEIGHT - _TOP - _BOTTOM)
