"""Charts of distributions: histograms, bars and heat maps."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import ArrayLike

from botify.analytics.plots.style import PALETTE, colours, new_figure, styled


@styled
def histograms(
    samples: Mapping[str, ArrayLike],
    title: str,
    subtitle: str,
    x: str,
    *,
    bins: int = 60,
    upper: float | None = None,
    control: str | None = None,
) -> Figure:
    """Draw the share of each sample by bins of equal width, as overlaid steps.

    `upper`: end of the axis; larger values count in the last bin.
    `control`: name of the sample in grey.

    Examples
    --------
    >>> samples = {"random": [0.0, 0.1], "toppop": [0.0, 1.0]}
    >>> chart = histograms(samples, "Half is loved", "share of the listens", "fraction heard")
    >>> [text.get_text() for text in chart.axes[0].get_legend().get_texts()]
    ['random', 'toppop']
    """
    figure, (axes,) = new_figure(title)
    values = {name: np.asarray(sample, dtype=np.float64) for name, sample in samples.items()}
    ends = [end for sample in values.values() for end in (sample.min(), sample.max())]
    edges = np.linspace(min(ends), max(ends) if upper is None else upper, bins + 1)
    colour_of = colours(list(values), control)
    for name, sample in values.items():
        counts, _ = np.histogram(np.minimum(sample, edges[-1]), edges)
        axes.stairs(counts / len(sample), edges, fill=True, color=colour_of[name], alpha=0.25)
        axes.stairs(counts / len(sample), edges, color=colour_of[name], linewidth=1.8, label=name)
    axes.set(title=subtitle, xlabel=x, ylabel="share", ylim=(0, None))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    if len(values) > 1:
        axes.legend()
    return figure


@styled
def bars(
    values: Mapping[str, float], title: str, subtitle: str, x: str, *, percent: bool = False, digits: int = 2
) -> Figure:
    """Draw a horizontal bar for each name, with its value at the end.

    `percent`: values are shares.
    `digits`: decimal places of values that are not shares.

    Examples
    --------
    >>> bars({"random": 0.2}, "A fifth is heard", "mean fraction", "fraction heard").axes[0].texts[0].get_text()
    '0.20'
    """
    figure, (axes,) = new_figure(title, height=1.4 + 0.45 * len(values))
    drawn = axes.barh(list(values), list(values.values()), color=PALETTE[0], height=0.6)
    axes.bar_label(
        drawn, [f"{value:.1%}" if percent else f"{value:,.{digits}f}" for value in values.values()], padding=5
    )
    axes.set(title=subtitle, xlabel=x)
    axes.invert_yaxis()
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    return figure


_FROM_WHITE = LinearSegmentedColormap.from_list("from white", ["#f4f6f8", "#a9c4e0", PALETTE[0], "#14365c"])

_LONGEST_LEVEL = 8
"""Longest column name, in letters, that is written horizontally; longer names are rotated."""


@styled
def heat_map(table: pd.DataFrame, title: str, subtitle: str, x: str, y: str, value: str) -> Figure:
    """Draw a table as a heat map; missing values stay white.

    `value`: name of the values, with their unit.

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
