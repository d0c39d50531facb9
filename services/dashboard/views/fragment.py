"""A piece of a page that is sent again when it has changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from services.dashboard.figures.snapshot import Snapshot
from services.dashboard.views.html import live


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
