"""Charts as SVG, drawn once for all viewers; the style sheet colours them, so one drawing serves light and dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from services.dashboard.views.html import text

WIDTH, HEIGHT = 600, 150
_TOP, _BOTTOM = 8, 4
_STEPS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)


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


def line_chart(series: Sequence[tuple[str, Sequence[float]]], unit: str, points: int) -> str:
    """Draw lines over time, the newest value at the right edge; NaN is a gap.

    Parameters
    ----------
    series : sequence of (str, sequence of float)
        Label and values, oldest first. The first is filled.
    unit : str
    points : int
        Values that the width has room for.
    """
    finite = [value for _, values in series for value in values if not math.isnan(value)]
    if not finite:
        return _blank("nothing measured yet")
    top = nice_ceiling(max(finite))
    lines = []
    for index, (_, values) in enumerate(series):
        for run in _runs(values, top, points):
            line = " ".join(f"{x:.1f},{y:.1f}" for x, y in run)
            if index == 0:
                lines.append(
                    f'<polygon class="area s0" points="{run[0][0]:.1f},{HEIGHT} {line} {run[-1][0]:.1f},{HEIGHT}"/>'
                )
            lines.append(f'<polyline class="line s{index}" points="{line}"/>')
    grid = "".join(
        f'<line class="grid" x1="0" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>' for y in (_y(top, top), _y(top / 2, top))
    )
    legend = "".join(
        f'<span class="key s{index}">{text(label)}</span>' for index, (label, _) in enumerate(series) if len(series) > 1
    )
    return (
        f'<figure class="chart"><div class="legend">{legend}<span class="top">{_short(top)} {text(unit)}</span></div>'
        f"{_svg(grid + ''.join(lines))}</figure>"
    )


def bars(values: Sequence[int], least_top: int = 100) -> str:
    """Draw a bar a partition, with its number below and its value above.

    A full bar is the highest value, but never less than `least_top`: a handful of records is not a tower.

    Examples
    --------
    >>> bars([0]).count('class="bar"')
    1
    """
    top = max([*values, least_top])
    columns = "".join(
        f'<span class="bar"><em>{_short(value)}</em><i style="height:{100 * value / top:.0f}%"></i>'
        f"<b>{partition}</b></span>"
        for partition, value in enumerate(values)
    )
    return f'<div class="bars">{columns}</div>'


def interval(effect: float, lower: float, upper: float, reach: float) -> str:
    """Draw an estimate with its interval around zero; `reach` is the value at both ends."""
    if math.isnan(lower):
        return '<div class="interval"><i class="zero"></i></div>'
    left, right, middle = (50 + 50 * max(-1.0, min(1.0, value / reach)) for value in (lower, upper, effect))
    side = "good" if lower > 0 else "bad" if upper < 0 else ""
    return (
        f'<div class="interval {side}"><i class="zero"></i>'
        f'<i class="range" style="left:{left:.1f}%;width:{max(right - left, 0.6):.1f}%"></i>'
        f'<i class="point" style="left:{middle:.1f}%"></i></div>'
    )


def band_chart(bounds: Sequence[tuple[float, float, float]], points: int) -> str:
    """Draw how an effect and its interval grew: (effect, lower, upper) in %, oldest first, stretched to the width."""
    shown = bounds[-points:]
    if len(shown) < 2:
        return _blank("the interval is drawn as it grows")
    highest = max(0.0, *(upper for _, _, upper in shown))
    lowest = min(0.0, *(lower for _, lower, _ in shown))
    span = (highest - lowest) or 1.0

    def line(values: Iterable[float]) -> list[str]:
        return [
            f"{at * WIDTH / (len(shown) - 1):.1f},{_y(value - lowest, span):.1f}" for at, value in enumerate(values)
        ]

    effect, lower, upper = (line(bound[column] for bound in shown) for column in range(3))
    zero = f"{_y(-lowest, span):.1f}"
    drawing = (
        f'<line class="grid zero" x1="0" x2="{WIDTH}" y1="{zero}" y2="{zero}"/>'
        f'<polygon class="area s0" points="{" ".join(upper + lower[::-1])}"/>'
        f'<polyline class="line s0" points="{" ".join(effect)}"/>'
    )
    return (
        f'<figure class="chart"><div class="legend"><span class="top">{highest:.0f} %</span></div>{_svg(drawing)}'
        f'<div class="legend"><span class="top">{lowest:.0f} %</span></div></figure>'
    )


def _svg(drawing: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img">{drawing}</svg>'


def _blank(why: str) -> str:
    return f'<div class="chart blank">{text(why)}</div>'


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


def _short(value: float) -> str:
    """Return a number in few characters.

    Examples
    --------
    >>> _short(950), _short(12_500), _short(3_000_000)
    ('950', '12.5k', '3M')
    """
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:g}"
