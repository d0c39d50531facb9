"""Line charts, with the name of each line at its end instead of a legend."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from botify.analytics.plots.style import MUTED, colours, new_figure, styled

_FEW = 12
"""Largest number of points that each get a tick on a logarithmic axis."""
_APART = 0.055
"""Smallest distance of two names, as a share of the picture's height."""


@styled
def line_chart(
    frame: pd.DataFrame,
    title: str,
    subtitle: str,
    x: str,
    y: str,
    *,
    control: str | None = None,
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    percent: bool = False,
    log_x: bool = False,
    log_y: bool = False,
    zero: bool = True,
    reference: float | None = None,
) -> Figure:
    """Draw each column over the index.

    Parameters
    ----------
    frame : DataFrame
        Its index holds numbers or times.
    control : str, optional
        Column in grey.
    bands : mapping of column to (lower, upper), optional
        An interval around a line.
    percent : bool
        Values are shares.
    zero : bool
        Whether a linear y axis begins at zero.
    reference : float, optional
        A value to compare with, drawn as a horizontal line.
    """
    figure, (axes,) = new_figure(title)
    draw_lines(axes, frame, colours(list(frame.columns), control), bands or {})
    axes.set(title=subtitle, ylabel=y)
    axes.set_xlabel(
        x, loc="left" if isinstance(frame.index, pd.DatetimeIndex) else "center"
    )  # the date is at the right
    if reference is not None:
        axes.axhline(reference, color=MUTED, linewidth=1, zorder=0)
    if log_x:
        axes.set_xscale("log")
        if len(frame) <= _FEW:
            axes.set_xticks(list(frame.index), [f"{value:g}" for value in frame.index])
            axes.minorticks_off()
    if log_y:
        axes.set_yscale("log")
    elif zero:
        axes.set_ylim(bottom=0)
    if percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    name_lines(axes, frame, colours(list(frame.columns), control))
    return figure


def draw_lines(
    axes: Axes,
    frame: pd.DataFrame,
    colour_of: Mapping[str, str],
    bands: Mapping[str, tuple[Sequence[float], Sequence[float]]],
) -> None:
    """Draw the columns with their bands."""
    for name in frame.columns:
        axes.plot(frame.index, frame[name], color=colour_of[name])
        if name in bands:
            axes.fill_between(frame.index, *bands[name], color=colour_of[name], alpha=0.16, linewidth=0)
    if isinstance(frame.index, pd.DatetimeIndex):
        locator = AutoDateLocator(minticks=3, maxticks=5)  # type: ignore[no-untyped-call]
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
    elif pd.api.types.is_integer_dtype(frame.index):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.01)


def name_lines(axes: Axes, frame: pd.DataFrame, colour_of: Mapping[str, str]) -> None:
    """Write each line's name at its last value, moved if names would overlap."""
    ends = {name: values.iloc[-1] for name in frame.columns if len(values := frame[name].dropna())}
    names = sorted(ends, key=ends.__getitem__)
    to_share = axes.transData + axes.transAxes.inverted()
    heights = [float(to_share.transform((axes.get_xlim()[1], ends[name]))[1]) for name in names]
    for name, height in zip(names, spread(heights, _APART), strict=True):
        axes.annotate(
            name,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(6, 0),
            textcoords="offset points",
            color=colour_of[name],
            va="center",
            fontweight="bold",
        )


def spread(places: Sequence[float], apart: float) -> list[float]:
    """Move ascending positions as little as possible so that they are `apart`, and from 0 to 1 if they fit.

    Runs of positions that are too near are spread around their mean (pool adjacent violators, as in isotonic
    regression: Barlow et al., 1972).
    """
    runs: list[tuple[float, int]] = []  # mean of (place - rank · apart), and the number of places
    for rank, place in enumerate(places):
        mean, count = place - rank * apart, 1
        while runs and runs[-1][0] > mean:
            before, members = runs.pop()
            mean, count = (before * members + mean * count) / (members + count), members + count
        runs.append((mean, count))
    room = max(1.0 - (len(places) - 1) * apart, 0.0)
    means = np.repeat([min(max(mean, 0.0), room) for mean, _ in runs], [count for _, count in runs])
    return [float(mean) + rank * apart for rank, mean in enumerate(means)]
