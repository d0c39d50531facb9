"""Pieces of a page; every text is escaped here, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import NamedTuple

from matplotlib.figure import Figure

from analytics.plots.style import svg

Html = str
"""Markup that may stand in the page as it is."""


class Section(NamedTuple):
    """A part of the page: its heading, the sentence that says what was found, and the evidence."""

    heading: str
    finding: str
    body: Html


class Row(NamedTuple):
    """A row of a table; the mood (`up`, `down` or nothing) colours it."""

    cells: Sequence[str]
    mood: str = ""


def paragraph(text: str, kind: str = "note") -> Html:
    """Return a paragraph of a CSS class.

    Examples
    --------
    >>> paragraph("1 < 2")
    '<p class="note">1 &lt; 2</p>'
    """
    return f'<p class="{kind}">{escape(text)}</p>'


def bullets(texts: Iterable[str]) -> Html:
    """Return a list; nothing where there are no texts.

    Examples
    --------
    >>> bullets(["1 < 2"]), bullets([])
    ('<ul><li>1 &lt; 2</li></ul>', '')
    """
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def picture(figure: Figure, name: str, description: str) -> Html:
    """Return a figure as inline SVG, with its description for those who cannot see it.

    Parameters
    ----------
    name : str
        One of its own within the page.
    """
    return f'<figure role="img" aria-label="{escape(description)}">{svg(figure, name)}</figure>'


def table(headings: Sequence[str], rows: Iterable[Row], texts: int = 1) -> Html:
    """Return a table.

    Parameters
    ----------
    headings : sequence of str
    rows : iterable of Row
    texts : int
        How many columns from the left are words; the others are numbers, and stand at the right of their column.

    Examples
    --------
    >>> table(["metric", "%"], [Row(["time", "+4"], "up")])
    '<table><tr><th>metric</th><th class="n">%</th></tr><tr class="up"><td>time</td><td class="n">+4</td></tr></table>'
    """

    def cells(tag: str, texts_of_row: Sequence[str]) -> Html:
        return "".join(
            f"<{tag}>{escape(text)}</{tag}>" if place < texts else f'<{tag} class="n">{escape(text)}</{tag}>'
            for place, text in enumerate(texts_of_row)
        )

    body = "".join(f'<tr class="{row.mood}">{cells("td", row.cells)}</tr>' for row in rows)
    return f"<table><tr>{cells('th', headings)}</tr>{body}</table>"


def tiles(facts: Mapping[str, str]) -> Html:
    """Return a few numbers in large type.

    Examples
    --------
    >>> tiles({"listens": "12"})
    '<div class="tiles"><div><b>12</b>listens</div></div>'
    """
    return (
        '<div class="tiles">'
        + "".join(f"<div><b>{escape(value)}</b>{escape(name)}</div>" for name, value in facts.items())
        + "</div>"
    )
