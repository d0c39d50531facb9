"""Numbers in a table, as colours."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from analytics.plots.style import PALETTE, new_figure, styled

_FROM_WHITE = LinearSegmentedColormap.from_list("from white", ["#f4f6f8", "#a9c4e0", PALETTE[0], "#14365c"])

_LONGEST_LEVEL = 8
"""Letters of a column's name that have room beside those of the next; longer names slope."""


@styled
def heat_map(table: pd.DataFrame, title: str, subtitle: str, x: str, y: str, value: str) -> Figure:
    """Draw a table: the columns to the right, the rows downwards; what is missing stays white.

    Parameters
    ----------
    table : DataFrame
    title, subtitle : str
        What is to be seen, and what is drawn.
    x, y, value : str
        What the columns, the rows and the numbers are, with units.

    Examples
    --------
    >>> table = pd.DataFrame({0: [1.0], 1: [0.2]}, index=["listener 7"])
    >>> chart = heat_map(table, "Skipped", "a row is a session", "position", "", "fraction heard")
    >>> chart.axes[0].get_yticklabels()[0].get_text()
    'listener 7'
    """
    figure, (axes,) = new_figure(title, height=1.6 + 0.26 * min(len(table), 16))
    values = np.ma.masked_invalid(table.to_numpy(dtype=np.float64))
    image = axes.imshow(values, aspect="auto", cmap=_FROM_WHITE, interpolation="nearest")
    figure.colorbar(image, ax=axes, label=value, shrink=0.9, pad=0.02).outline.set_visible(False)
    step = max(1, len(table.columns) // 12)
    names = [str(name) for name in table.columns[::step]]
    axes.set_xticks(range(0, len(table.columns), step), names)
    if max(map(len, names), default=0) > _LONGEST_LEVEL:
        axes.tick_params(axis="x", rotation=30)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right")
    axes.set_yticks(range(len(table)), [str(name) for name in table.index])
    axes.set(title=subtitle, xlabel=x, ylabel=y)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure
