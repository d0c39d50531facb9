"""Charts of points: maps, dots with intervals, and forest plots."""

from __future__ import annotations

from collections.abc import Container, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from botify.analytics.plots.style import DOWN, INK, MUTED, PALETTE, UP, new_figure, styled


@styled
def map_of_groups(places: ArrayLike, groups: pd.Series[str], title: str, subtitle: str, named: int = 6) -> Figure:
    """Draw points as a map without axes; the largest groups have a colour and a name.

    `places`: shape (n, 2).
    `named`: number of groups with a colour; the others are grey.

    Examples
    --------
    >>> groups = pd.Series(["rock", "rock", "jazz"])
    >>> chart = map_of_groups([[0, 0], [1, 0], [5, 5]], groups, "Genres lie apart", "a point is a track", named=1)
    >>> [text.get_text() for text in chart.axes[0].texts]
    ['rock']
    """
    at = np.asarray(places, dtype=np.float64)
    largest = groups.value_counts().head(named).index
    figure, (axes,) = new_figure(title, height=5.4)
    rest = ~groups.isin(largest).to_numpy()
    axes.scatter(at[rest, 0], at[rest, 1], s=5, color=MUTED, alpha=0.25, linewidths=0)
    for name, colour in zip(largest, PALETTE, strict=False):
        members = at[(groups == name).to_numpy()]
        axes.scatter(members[:, 0], members[:, 1], s=7, color=colour, alpha=0.7, linewidths=0)
        middle = np.median(members, axis=0)
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
        axes.annotate(str(name), middle, color=colour, fontweight="bold", ha="center", va="center", bbox=box)
    axes.set(title=subtitle, xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


@styled
def dots(
    frame: pd.DataFrame, title: str, subtitle: str, x: str, y: str, *, names: Sequence[str] | None = None
) -> Figure:
    """Draw a point for each row, with its intervals and its name.

    `frame`: columns x and y; optionally x_lower, x_upper, y_lower and y_upper.
    `names`: written beside the points; by default the index.

    Examples
    --------
    >>> frame = pd.DataFrame({"x": [0.1], "y": [2.0]}, index=["random"])
    >>> dots(frame, "Offline predicts online", "a point is a recommender", "hit rate", "time").axes[0].get_xlabel()
    'hit rate'
    """
    figure, (axes,) = new_figure(title)
    for place, (name, row) in enumerate(zip(names or frame.index.astype(str), frame.to_dict("records"), strict=True)):
        colour = PALETTE[place % len(PALETTE)]
        if "y_lower" in row:
            axes.plot([row["x"]] * 2, [row["y_lower"], row["y_upper"]], color=colour, alpha=0.5, linewidth=2.5)
        if "x_lower" in row:
            axes.plot([row["x_lower"], row["x_upper"]], [row["y"]] * 2, color=colour, alpha=0.5, linewidth=2.5)
        axes.plot(row["x"], row["y"], "o", color=colour, markersize=8)
        axes.annotate(name, (row["x"], row["y"]), xytext=(8, 6), textcoords="offset points", color=INK)
    axes.set(title=subtitle, xlabel=x, ylabel=y)
    axes.margins(0.12)
    return figure


def against(x: pd.DataFrame, y: pd.DataFrame) -> pd.DataFrame:
    """Join two tables of estimates with their intervals, for `dots`.

    `x`, `y`: columns estimate, lower and upper; rows that are not in both are left out.
    """
    named = [
        table[["estimate", "lower", "upper"]].set_axis([axis, f"{axis}_lower", f"{axis}_upper"], axis=1)
        for axis, table in (("x", x), ("y", y))
    ]
    return named[0].join(named[1], how="inner")


_ROW_INCHES = 0.42
_FRAME_INCHES = 1.5
_SIDES = (MUTED, UP, DOWN)
"""Colours of 0, 1 and -1."""


@styled
def forest_plot(
    rows: pd.DataFrame, title: str, subtitle: str, x: str, *, reference: float | None = 0.0, marked: Container[str] = ()
) -> Figure:
    """Draw a point and its interval for each row: green if it is certainly better, red if worse, grey if neither.

    Parameters
    ----------
    rows : DataFrame
        Indexed by name, from the top; columns estimate, lower and upper, and optionally better: 1, -1 or 0. Without
        it, more than the reference is better. Rows without an interval are left out.
    reference : float, optional
        Drawn as a line.
    marked : container of str
        Rows in blue, for comparison.
    """
    shown = rows.dropna(subset=["estimate", "lower", "upper"])
    at = reference or 0.0
    better = shown.get("better", (shown["lower"] > at) * 1 - (shown["upper"] < at) * 1).to_numpy()
    figure, (axes,) = new_figure(title, height=_FRAME_INCHES + _ROW_INCHES * max(len(shown), 1))
    values = shown[["estimate", "lower", "upper"]].to_numpy(dtype=float).tolist()
    for place, (name, (estimate, lower, upper)) in enumerate(zip(shown.index, values, strict=True)):
        colour = PALETTE[0] if name in marked else INK if reference is None else _SIDES[int(better[place])]
        axes.plot([lower, upper], [place, place], color=colour, linewidth=3, alpha=0.55)
        axes.plot(estimate, place, "o", color=colour, markersize=8)
    if reference is not None:
        axes.axvline(reference, color=MUTED, linewidth=1, zorder=0)
    axes.set(title=subtitle, xlabel=x, ylim=(len(shown) - 0.5, -0.5))
    axes.set_yticks(range(len(shown)), [str(name) for name in shown.index])
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure
