"""What surrounds every page: the name, the way to the other pages, light or dark."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from nicegui import ui

from services.dashboard.broadcast import Broadcast
from services.dashboard.figures import Snapshot
from services.dashboard.views.html import View, laid_out, text, with_problems
from services.dashboard.views.operations import letters, replays
from services.dashboard.views.overview import overview
from services.dashboard.views.popular import experiments, popular

MOUNT = "/ui"


class Page(NamedTuple):
    """A page as the navigation names it; `icon` is a Material icon, whose font NiceGUI brings."""

    path: str
    title: str
    icon: str


PLACES = (
    Page("/", "Overview", "insights"),
    Page("/popular", "Popular", "trending_up"),
    Page("/experiments", "Experiments", "balance"),
    Page("/listener", "Listeners", "person_search"),
    Page("/letters", "Dead letters", "mark_email_unread"),
    Page("/replays", "Replays", "replay"),
    Page("/listen", "Be a listener", "headphones"),
)


@contextmanager
def frame(path: str, subtitle: str = "") -> Iterator[None]:
    """Put what is made inside the block into a page.

    Parameters
    ----------
    path : str
        Of the page, as in `PLACES`.
    subtitle : str
    """
    place = next(place for place in PLACES if place.path == path)
    ui.page_title(f"{place.title} · Botify")
    ui.add_head_html(
        f'<link rel="stylesheet" href="{MOUNT}/static/dashboard.css">'
        f'<script src="{MOUNT}/static/dashboard.js"></script>'
    )
    ui.colors(primary="#7c5cff", accent="#12b886")
    ui.html(_navigation(place), sanitize=False, tag="nav").classes("navigation")
    with ui.element("div").classes("content"):
        ui.html(f"<h1>{text(place.title)}</h1><p>{text(subtitle)}</p>", sanitize=False, tag="header").classes("title")
        yield


def _navigation(current: Page) -> str:
    here = {current: " aria-current=page"}
    links = "".join(
        f'<a href="{MOUNT}{place.path}"{here.get(place, "")} title="{text(place.title)}">'
        f'<i class="material-icons" aria-hidden="true">{place.icon}</i><span>{text(place.title)}</span></a>'
        for place in PLACES
    )
    return (
        f'<a class="brand" href="{MOUNT}/"><span class="logo">♪</span><b>Botify</b></a><div class="links">{links}</div>'
        '<button class="theme" type="button" onclick="dashboard.turnTheme()" aria-label="light or dark">'
        '<i class="material-icons" aria-hidden="true">contrast</i></button>'
    )


class LivePage(NamedTuple):
    """A page of fragments."""

    path: str
    subtitle: str
    view: View


PAGES = (
    LivePage("/", "How the loop is doing, second by second", overview),
    LivePage("/popular", "What all listeners together hear", popular),
    LivePage("/experiments", "Which recommender keeps listeners longer", experiments),
    LivePage("/letters", "Messages that could not enter, and why", letters),
    LivePage("/replays", "State that is rebuilt from the topic", replays),
)


def add_live_pages(broadcast: Broadcast, snapshot: Callable[[], Snapshot]) -> None:
    """Serve them."""
    for page in PAGES:
        _add(page, broadcast, snapshot)


def _add(page: LivePage, broadcast: Broadcast, snapshot: Callable[[], Snapshot]) -> None:
    channel = broadcast.channel(with_problems(page.view))

    @ui.page(page.path)
    def show() -> None:
        with frame(page.path, page.subtitle):
            ui.html(laid_out(channel.join(ui.context.client, snapshot())), sanitize=False)
