"""Effects or means with their intervals, one below the other."""

from __future__ import annotations

from collections.abc import Container

import pandas as pd
from matplotlib.figure import Figure

from analytics.plots.style import DOWN, INK, MUTED, PALETTE, UP, new_figure, styled

_ROW_INCHES = 0.42
_FRAME_INCHES = 1.5


@styled
def forest_plot(
    rows: pd.DataFrame,
    title: str,
    subtitle: str,
    x: str,
    *,
    reference: float | None = 0.0,
    marked: Container[str] = (),
) -> Figure:
    """Draw a point and its interval for each row: green right of the reference, red left of it, grey if on both sides.

    Parameters
    ----------
    rows : DataFrame
        Indexed by what a row is called, from the top; columns estimate, lower and upper. Rows without an interval
        are left out.
    title, subtitle : str
        What is to be seen, and what is drawn.
    x : str
        What is estimated, with its unit.
    reference : float, optional
        Drawn as a line; None where there is nothing to compare with.
    marked : container of str
        Rows to be blue: what the others are held against.

    Examples
    --------
    >>> rows = pd.DataFrame({"estimate": [2.0], "lower": [1.0], "upper": [3.0]}, index=["time"])
    >>> forest_plot(rows, "More time", "effect and 95 % interval", "effect, %").axes[0].get_yticklabels()[0].get_text()
    'time'
    """
    shown = rows.dropna(subset=["estimate", "lower", "upper"])
    figure, (axes,) = new_figure(title, height=_FRAME_INCHES + _ROW_INCHES * max(len(shown), 1))
    values = shown[["estimate", "lower", "upper"]].to_numpy(dtype=float).tolist()
    for place, (name, (estimate, lower, upper)) in enumerate(zip(shown.index, values, strict=True)):
        colour = PALETTE[0] if name in marked else _colour(lower, upper, reference)
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


def _colour(lower: float, upper: float, reference: float | None) -> str:
    if reference is None:
        return INK
    return UP if lower > reference else DOWN if upper < reference else MUTED
