"""The visual language: what every picture has in common.

A picture's title says what is to be seen, the line below it what is drawn. Colours mean the same everywhere: grey is
the control or the background, blue the first thing to look at; green is up, red is down. The palette can be told
apart by colour-blind readers (after Okabe and Ito, "Color universal design", 2008).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import blended_transform_factory
from matplotlib.typing import RcKeyType

Parameters = ParamSpec("Parameters")

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
UP, DOWN = "#23856d", "#c0432f"
CONTROL = "#8a94a3"
PALETTE = ("#2563a8", "#e07b39", "#23856d", "#8e5ea2", "#d4a72c", "#c0432f", "#4fa3c7", "#6b5b4b")
WIDTH, HEIGHT = 9.0, 4.6
"""Of one picture, in inches; at `DPI` it fills the width of a page."""
DPI = 100
_MARGIN = 0.01
"""Left of the titles, as a share of the width."""

_RC: dict[RcKeyType, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": MUTED,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titlepad": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 2.0,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
}


def styled(draw: Callable[Parameters, Figure]) -> Callable[Parameters, Figure]:
    """Let a function draw in this language, without touching matplotlib's settings for anybody else."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with rc_context(_RC):
            figure = draw(*args, **kwargs)
            _begin_below_title(figure)
            return figure

    return drawn


def _begin_below_title(figure: Figure) -> None:
    """Let the line below the title begin where the title does, however much room the names of the rows take."""
    axes = figure.axes[0]
    subtitle = axes.set_title(axes.get_title(loc="left"), x=_MARGIN)
    subtitle.set_transform(blended_transform_factory(figure.transFigure, subtitle.get_transform()))


def new_figure(
    title: str, panels: int = 1, height: float = HEIGHT, *, same_y: bool = False
) -> tuple[Figure, Sequence[Axes]]:
    """Return an empty figure with its title, and panels side by side.

    Parameters
    ----------
    title : str
        What is to be seen.
    panels : int
    height : float
        Inches.
    same_y : bool
        Whether the panels share their y axis.
    """
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=_MARGIN, ha="left", fontsize=13.5, fontweight="bold")
    axes = figure.subplots(1, panels, squeeze=False, sharey=same_y)
    return figure, list(np.ravel(axes))


def colours(names: Sequence[str], control: str | None = None) -> dict[str, str]:
    """Give each name a colour: grey to the control, the palette's in turn to the others.

    Examples
    --------
    >>> colours(["C", "T1"], control="C")
    {'C': '#8a94a3', 'T1': '#2563a8'}
    """
    others = [name for name in names if name != control]
    chosen = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(others)}
    return {name: chosen.get(name, CONTROL) for name in names}


def png(figure: Figure) -> bytes:
    """Return the picture as PNG, equal pictures as equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Return the picture as an `<svg>` element that can stand in a page beside others.

    Parameters
    ----------
    name : str
        One of its own within the page; the ids inside the picture come from it.
    """
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    text = buffer.getvalue()
    return text[text.index("<svg") :]
