"""The style of all charts.

Of every chart, `title` is the message, `subtitle` the description, and `x` and `y` name the axes with their units.
Grey is the control or the background, blue the most important series, green is up, red is down. Colour-blind readers
can distinguish the palette (after Okabe and Ito, "Color universal design", 2008).
"""

import io
import re
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.transforms import blended_transform_factory
from matplotlib.typing import RcKeyType

Parameters = ParamSpec("Parameters")

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
UP, DOWN = "#23856d", "#c0432f"
CONTROL = "#8a94a3"
PALETTE = ("#2563a8", "#e07b39", "#23856d", "#8e5ea2", "#d4a72c", "#c0432f", "#4fa3c7", "#6b5b4b")
WIDTH, HEIGHT = 9.0, 4.6  # of a chart, in inches
DPI = 100
_MARGIN = 0.01  # left of the titles, as a share of the width

FONTS = [
    "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    *sorted(
        filter(
            re.compile("Noto Sans (CJK|[JKST][CPR]|Devanagari|Thai)|Hiragino|Yu Gothic|Nirmala").match, get_font_names()
        )
    ),  # other scripts
]

_RC: dict[RcKeyType, Any] = {
    "figure.dpi": DPI,
    "figure.facecolor": "white",
    "font.family": FONTS,
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
    """Decorate a function to draw in this style, without changing matplotlib's global settings."""

    @wraps(draw)
    def drawn(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Figure:
        with rc_context(_RC):
            figure = draw(*args, **kwargs)
            _begin_below_title(figure)
            return figure

    return drawn


def _begin_below_title(figure: Figure) -> None:
    """Align the line below the title with the title."""
    axes = figure.axes[0]
    subtitle = axes.set_title(axes.get_title(loc="left"), x=_MARGIN)
    subtitle.set_transform(blended_transform_factory(figure.transFigure, subtitle.get_transform()))


def new_figure(title: str, height: float = HEIGHT) -> tuple[Figure, Axes]:
    """Return an empty figure with a title, and its axes."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    figure.suptitle(title, x=_MARGIN, ha="left", fontsize=13.5, fontweight="bold")
    return figure, figure.subplots()


def colours(names: Sequence[str], control: str | None = None) -> dict[str, str]:
    """Return a colour for each name: grey for the control, the palette's in turn for the others."""
    others = [name for name in names if name != control]
    chosen = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(others)}
    return {name: chosen.get(name, CONTROL) for name in names}


def png(figure: Figure) -> bytes:
    """Return the chart as PNG; equal charts give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """Return the chart as an `<svg>` element with ids derived from `name`; texts are text, the ground the page's."""
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        unsaid = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(buffer, format="svg", metadata=unsaid, transparent=True)
    text = buffer.getvalue()
    # of its ids only those that are referred to derive from the salt; the others are the same in each chart
    return re.sub(r' id="[a-zA-Z.2]+_\d+"', "", text[text.index("<svg") :])
