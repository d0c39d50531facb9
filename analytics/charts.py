"""Charts: lines, distributions, points, intervals and heat maps."""

from collections.abc import Container, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.dates import HOURLY, MINUTELY, MONTHLY, SECONDLY, AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike

from botify.analytics.chart_style import DOWN, INK, MUTED, PALETTE, UP, colours, new_figure, styled

_NEXT_UNIT = {SECONDLY: 60, MINUTELY: 60, HOURLY: 24, MONTHLY: 12}
_FEW = 12  # largest number of points that each get a tick on a logarithmic axis
_APART = 0.055  # smallest distance of two names, as a share of the picture's height


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
    """Draw each column over the index; with `percent`, values are shares."""
    figure, axes = new_figure(title)
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
        for unit, next_unit in _NEXT_UNIT.items():
            locator.intervald[unit].append(next_unit)  # else five ticks do not reach over nearly three of the next
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

    Groups of positions that are too near are spread around their mean (pool adjacent violators, as in isotonic
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


@styled
def histograms(
    samples: Mapping[str, ArrayLike], title: str, subtitle: str, x: str, *, bins: int = 60, upper: float | None = None
) -> Figure:
    """Draw the share of each sample by bins of equal width, as overlaid steps."""
    figure, axes = new_figure(title)
    values = {name: np.asarray(sample, dtype=np.float64) for name, sample in samples.items()}
    ends = [end for sample in values.values() for end in (sample.min(), sample.max())]
    edges = np.linspace(min(ends), max(ends) if upper is None else upper, bins + 1)
    colour_of = colours(list(values))
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

    Examples
    --------
    >>> bars({"random": 0.2}, "A fifth is heard", "mean fraction", "fraction heard").axes[0].texts[0].get_text()
    '0.20'
    """
    figure, axes = new_figure(title, height=1.4 + 0.45 * len(values))
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

_LONGEST_LEVEL = 8  # longest column name, in letters, that is written horizontally; longer names are rotated


@styled
def heat_map(table: pd.DataFrame, title: str, subtitle: str, x: str, y: str, value: str) -> Figure:
    """Draw a table as a heat map; missing values stay white.

    Examples
    --------
    >>> table = pd.DataFrame({0: [1.0], 1: [0.2]}, index=["listener 7"])
    >>> chart = heat_map(table, "Skipped", "a row is a session", "position", "", "fraction heard")
    >>> chart.axes[0].get_yticklabels()[0].get_text()
    'listener 7'
    """
    figure, axes = new_figure(title, height=1.6 + 0.26 * min(len(table), 16))
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


@styled
def map_of_groups(places: ArrayLike, groups: "pd.Series[str]", title: str, subtitle: str, named: int = 6) -> Figure:
    """Draw points, shape (n, 2), as a map without axes; the `named` largest groups have a colour and a name.

    Examples
    --------
    >>> groups = pd.Series(["rock", "rock", "jazz"])
    >>> chart = map_of_groups([[0, 0], [1, 0], [5, 5]], groups, "Genres lie apart", "a point is a track", named=1)
    >>> [text.get_text() for text in chart.axes[0].texts]
    ['rock']
    """
    at = np.asarray(places, dtype=np.float64)
    largest = groups.value_counts().head(named).index
    figure, axes = new_figure(title, height=5.4)
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
def dots(frame: pd.DataFrame, title: str, subtitle: str, x: str, y: str) -> Figure:
    """Draw a point for each row, with its name, the index.

    `frame` has x and y; optionally x_lower, x_upper, y_lower and y_upper.
    """
    figure, axes = new_figure(title)
    for place, (name, row) in enumerate(zip(frame.index.astype(str), frame.to_dict("records"), strict=True)):
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
    """Join two tables of estimate, lower and upper for `dots`; rows that are not in both are left out."""
    named = [
        table[["estimate", "lower", "upper"]].set_axis([axis, f"{axis}_lower", f"{axis}_upper"], axis=1)
        for axis, table in (("x", x), ("y", y))
    ]
    return named[0].join(named[1], how="inner")


_ROW_INCHES = 0.42
_FRAME_INCHES = 1.5
_SIDES = (MUTED, UP, DOWN)  # colours of 0, 1 and -1


@styled
def forest_plot(
    rows: pd.DataFrame, title: str, subtitle: str, x: str, *, reference: float | None = 0.0, marked: Container[str] = ()
) -> Figure:
    """Draw a point and its interval for each row: green if it is certainly better, red if worse, grey if neither.

    `rows`, indexed by name, from the top, have estimate, lower and upper, and optionally better: 1, -1 or 0. Without
    it, more than the reference is better. Rows without an interval are left out, those `marked` are blue.
    """
    shown = rows.dropna(subset=["estimate", "lower", "upper"])
    at = reference or 0.0
    better = shown.get("better", (shown["lower"] > at) * 1 - (shown["upper"] < at) * 1).to_numpy()
    figure, axes = new_figure(title, height=_FRAME_INCHES + _ROW_INCHES * max(len(shown), 1))
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
