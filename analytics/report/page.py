"""The parts of a report, and their page: one self-contained file without scripts and external resources."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from botify.analytics.chart_style import svg

WIDTHS = {"laptop": 9.0, "phone": 3.5}  # inches of a figure, by the class that shows it in windows of this width only


@dataclass(frozen=True, slots=True)
class Note:
    """A paragraph; the kind (`note` or `alarm`) is its style."""

    text: str
    kind: str = "note"
    block: ClassVar[str] = "note"


class Row(NamedTuple):
    """A row of a table; the mood (`up`, `down` or nothing) colours it."""

    cells: Sequence[str]
    mood: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the first `texts` columns are words, the others numbers, which are aligned to the right."""

    headings: Sequence[str]
    rows: Sequence[Row]
    texts: int = 1
    block: ClassVar[str] = "table"


@dataclass(frozen=True, slots=True)
class Picture:
    """A figure as inline SVG for each width of a window, with a description for screen readers.

    Its title and the names of its lines are HTML: they wrap, and a browser has the glyphs of every script.
    """

    title: str
    subtitle: str
    names: Sequence[tuple[str, str]]
    drawn: Mapping[str, Markup]
    description: str
    block: ClassVar[str] = "picture"

    @classmethod
    def of(cls, figure: Figure, name: str, description: str) -> "Picture":
        """Draw a figure, and take its titles and names out of it; the name is unique on the page."""
        axes = figure.axes[0]
        title, subtitle = figure.get_suptitle(), axes.get_title(loc="left")
        figure.suptitle("")
        axes.set_title("", loc="left")
        names = [(text.get_text(), to_hex(text.get_color())) for text in reversed(axes.texts)]
        for text in list(axes.texts):
            text.remove()
        drawn = {}
        for window, inches in WIDTHS.items():
            figure.set_figwidth(inches)
            drawn[window] = Markup(svg(figure, f"{name}-{window}"))  # noqa: S704 - matplotlib escapes what it writes
        return cls(title, subtitle, names, drawn, description)


Part = Note | Table | Picture


class Section(NamedTuple):
    """A section of the page: its heading, a sentence with the finding, and the evidence."""

    heading: str
    finding: str
    parts: Sequence[Part]


@cache
def _template() -> Template:
    place = PackageLoader("botify.analytics.report")
    made = Environment(loader=place, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return made.get_template("page.html")


def render_page(source: str, facts: Mapping[str, str], sections: Sequence[Section]) -> str:
    """Return the page as HTML, with facts in large type above the sections.

    Examples
    --------
    >>> page = render_page("1 < 2", {"listens": "12"}, [Section("Sessions", "They end.", [Note("a & b", "alarm")])])
    >>> [line for line in page.splitlines() if line in ("<p>1 &lt; 2</p>", '<p class="alarm">a &amp; b</p>')]
    ['<p>1 &lt; 2</p>', '<p class="alarm">a &amp; b</p>']
    """
    return _template().render(source=source, facts=facts, sections=sections).lstrip()
