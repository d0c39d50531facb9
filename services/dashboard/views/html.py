"""The few pieces that all pages are made of. Whatever comes from outside is escaped here."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple

from services.dashboard.figures import Snapshot


def text(value: object) -> str:
    """Return a value as HTML text.

    Examples
    --------
    >>> text("<b>")
    '&lt;b&gt;'
    """
    return escape(str(value))


def prose(value: str) -> str:
    """Return a sentence as HTML; what stands between backticks is a command or a name.

    Examples
    --------
    >>> prose("`botify up` makes <them>")
    '<code>botify up</code> makes &lt;them&gt;'
    """
    return re.sub("`([^`]+)`", r"<code>\1</code>", text(value))


def number(value: float, decimals: int = 0) -> str:
    """Return a number for people, a dash where there is none.

    Examples
    --------
    >>> number(12345.6), number(float("nan"))
    ('12,346', '–')
    """
    return "–" if math.isnan(value) else f"{value:,.{decimals}f}"


def signed(value: float, decimals: int = 1) -> str:
    """Return a number with its sign, a real minus among them.

    Examples
    --------
    >>> signed(-1.25), signed(45.61)
    ('−1.2', '+45.6')
    """
    return "–" if math.isnan(value) else f"{value:+,.{decimals}f}".replace("-", "−")


def live(name: str, content: str, css: str = "") -> str:
    """Return a place whose content is replaced while the page is looked at; `static/dashboard.js` does it."""
    return f'<div data-live="{name}" class="{css}">{content}</div>'


def card(title: str, content: str, note: str = "", css: str = "") -> str:
    """Return a titled box; title and note are text, the content is HTML."""
    small = f'<p class="note">{prose(note)}</p>' if note else ""
    return f'<section class="card {css}"><h2>{text(title)}</h2>{content}{small}</section>'


def tile(label: str, value: str, unit: str = "", detail: str = "", css: str = "") -> str:
    """Return one big figure."""
    return (
        f'<div class="tile {css}"><span class="label">{text(label)}</span>'
        f'<span class="value">{text(value)}<small>{text(unit)}</small></span>'
        f'<span class="detail">{text(detail)}</span></div>'
    )


def empty(title: str, way_out: str, icon: str = "♪") -> str:
    """Return what stands where there is nothing yet, and what would bring something."""
    return f'<div class="empty"><span class="icon">{icon}</span><b>{text(title)}</b><p>{prose(way_out)}</p></div>'


def badge(label: str, kind: str = "") -> str:
    """Return a word in a coloured pill: `good`, `bad`, `warn`, `accent` or plain."""
    return f'<span class="badge {kind}">{text(label)}</span>'


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], css: str = "") -> str:
    """Return a table that scrolls sideways by itself; headings are text (`>` in front aligns right), cells are HTML."""
    sides = ["num" if heading.startswith(">") else "" for heading in headings]
    head = "".join(
        f'<th class="{side}">{text(heading.lstrip(">"))}</th>' for heading, side in zip(headings, sides, strict=True)
    )
    body = "".join(
        "<tr>" + "".join(f'<td class="{side}">{cell}</td>' for cell, side in zip(row, sides, strict=True)) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table class="{css}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def meter(share: float) -> str:
    """Return a share, 0 to 1, as a bar."""
    return f'<span class="meter"><i style="width:{100 * share:.0f}%"></i></span>'


def heard(fraction: float) -> str:
    """Return how much of a track was heard."""
    return f'<span class="heard">{meter(fraction)}<span>{fraction:.0%}</span></span>'


def cover(title: str, artist: str, css: str = "") -> str:
    """Return a picture for a track that has none: two hues that follow from its names, and its initial."""
    digest = hashlib.blake2b(f"{artist}\0{title}".encode(), digest_size=4).digest()
    first = digest[0] * 360 // 256
    second = (first + 40 + digest[1] // 3) % 360
    style = f"--a:{first};--b:{second};--turn:{digest[2] * 360 // 256}deg"
    return f'<span class="cover {css}" aria-hidden="true" style="{style}">{text(title[:1].upper() or "♪")}</span>'


def named_track(title: str, artist: str) -> str:
    """Return a track with its cover, as it stands in lists."""
    return (
        f'<span class="track">{cover(title, artist)}<span class="names"><b>{text(title)}</b>'
        f"<span>{text(artist)}</span></span></span>"
    )


class Fragment(NamedTuple):
    """A named piece of HTML.

    Attributes
    ----------
    name : str
        Unique on its page.
    html : str
    css : str
        Classes of the place it stands in: `wide`, `half` or `third` of the page's width.
    """

    name: str
    html: str
    css: str = "wide"


View = Callable[[Snapshot], list[Fragment]]


def laid_out(fragments: Iterable[Fragment]) -> str:
    """Return a page's content: the places in their order, on a grid.

    Examples
    --------
    >>> laid_out([Fragment("tiles", "12")])
    '<div class="grid"><div data-live="tiles" class="place wide">12</div></div>'
    """
    places = "".join(live(each.name, each.html, css=f"place {each.css}") for each in fragments)
    return f'<div class="grid">{places}</div>'


def problems(snapshot: Snapshot) -> Fragment:
    """Return a line a problem; the figures below are as old as the problem is."""
    if not snapshot.at_s:
        return Fragment("problems", '<p class="problem waiting">the first reading is being taken</p>')
    lines = "".join(f'<p class="problem" role="alert">{prose(problem)}</p>' for problem in snapshot.problems)
    return Fragment("problems", lines)


def with_problems(view: View) -> View:
    """Return the view with the problems above it."""
    return lambda snapshot: [problems(snapshot), *view(snapshot)]
