"""The pages that NiceGUI serves: what surrounds each of them, those made of fragments, and a listener's page.

The changes of a page are rendered and encoded once a second, for all its viewers.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import quote

from confluent_kafka import KafkaException
from markupsafe import Markup
from nicegui import app as nicegui_app
from nicegui import run, ui
from nicegui.client import Client
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from botify.core.errors import BotifyError
from botify.services.dashboard import views
from botify.services.dashboard.figures import ListenerReading, Snapshot, TracksById
from botify.services.dashboard.views import MOUNT, Fragment, View, laid_out, render

log = logging.getLogger(__name__)

LISTENER = "/listener"
WHY = "/why"
LISTEN = "/listen"
RECOMMEND = "/recommend"


class Page(NamedTuple):
    """A page; the icon is one of Material, whose font NiceGUI brings, and one made of fragments has a view."""

    path: str
    title: str
    short: str  # title that fits below the icon on a phone
    icon: str
    subtitle: str
    view: View | None = None


PAGES = (
    Page("/", "Overview", "Home", "insights", "Throughput, latency and lag, updated every second", views.overview),
    Page(
        "/popular", "Popular", "Popular", "trending_up", "The most popular and the fastest rising tracks", views.popular
    ),
    Page(
        "/experiments",
        "Experiments",
        "A/B",
        "balance",
        "Effects of treatments on the sessions of listeners",
        views.experiments,
    ),
    Page(LISTENER, "Listeners", "People", "person_search", "State, sessions, and why each track was recommended"),
    Page(WHY, "Why", "Why", "psychology_alt", "What led to a listener's newest answer, computed again from the topics"),
    Page(
        "/letters",
        "Dead letters",
        "Letters",
        "mark_email_unread",
        "Messages that were refused, with the reason",
        views.letters,
    ),
    Page("/replays", "Replays", "Replays", "replay", "Progress of replays and snapshots", views.replays),
    Page(RECOMMEND, "Be the recommender", "Play", "sports_esports", "A simulated listener hears what you choose"),
    Page(
        LISTEN,
        "Be a listener",
        "Listen",
        "headphones",
        "Your listens use the same topics as those of all other listeners",
    ),
)
"""In the order of the navigation."""

MISSING = Page("", "No such page", "", "help", "The navigation has all pages; /docs describes the API")


def show_html(template: str, block: str, **values: object) -> ui.html:
    """Add a block of a template to the page, and return the element."""
    return ui.html(render(template, block, **values), sanitize=False)


def button(label: str, icon: str, action: Callable[[], object], *, flat: bool = False) -> ui.button:
    """Add a button to the page, and return it."""
    return ui.button(label, icon=icon, on_click=action).props(f"{'flat' if flat else 'unelevated'} no-caps")


def show_problem(problem: str) -> None:
    """Add an error message to the page."""
    show_html("listener", "problem", problem=problem)


@contextmanager
def frame(path: str) -> Iterator[None]:
    """Surround what is added inside the block with the page's title and the navigation."""
    page = next(page for page in (*PAGES, MISSING) if page.path == path)
    ui.page_title(f"{page.title} · Botify")
    ui.add_head_html(
        f'<link rel="stylesheet" href="{MOUNT}/static/dashboard.css">'
        f'<script src="{MOUNT}/static/dashboard.js"></script>'
    )
    ui.colors(primary="#7c5cff", accent="#12b886")
    navigation = render("page", "navigation", pages=PAGES, current=page)
    ui.html(navigation, sanitize=False, tag="nav").classes("navigation")
    with ui.element("div").classes("content"):
        ui.html(render("page", "title", current=page), sanitize=False, tag="header").classes("title")
        yield


def add_missing_page() -> None:
    """Serve a page of ours, with status 404, where NiceGUI has none."""

    @nicegui_app.exception_handler(404)
    async def missing(request: Request, _: Exception) -> Response:
        with Client(ui.page(""), request=request) as client, frame(MISSING.path):
            show_html("page", "missing", path=request.url.path)
        return client.build_response(request, 404)


EVERY_S = 1.0

Renderer = Callable[[Snapshot], list[Fragment]]


class Channel:
    """One page and its viewers, who get the page as it was last sent: the changes from then on keep it current."""

    def __init__(self, view: Renderer) -> None:
        self._view = view
        self._sent: dict[str, Markup] = {}
        self._viewers: dict[str, Client] = {}

    @property
    def is_viewed(self) -> bool:
        return bool(self._viewers)

    def join(self, client: Client, snapshot: Snapshot) -> list[Fragment]:
        """Return the page's fragments, and send their changes to this client until it disconnects."""
        fragments = self._view(snapshot)
        if not self._viewers:  # what was sent last is out of date
            self._sent = {fragment.name: fragment.html for fragment in fragments}
        self._viewers[client.id] = client
        client.on_delete(lambda: self._viewers.pop(client.id, None))
        return [fragment._replace(html=self._sent.get(fragment.name, Markup())) for fragment in fragments]

    def send(self, snapshot: Snapshot) -> None:
        """Send what has changed since the last message."""
        if self.is_viewed and (changed := self.changes(snapshot)):
            # JSON is JavaScript since ECMAScript 2019
            message = f"dashboard.show({json.dumps(changed, ensure_ascii=False)})"
            for client in list(self._viewers.values()):
                client.run_javascript(message)

    def changes(self, snapshot: Snapshot) -> dict[str, Markup]:
        """Return the fragments that differ from what was sent, and note them as sent."""
        now = {fragment.name: fragment.html for fragment in self._view(snapshot)}
        changed = {name: html for name, html in now.items() if self._sent.get(name) != html}
        self._sent.update(changed)
        return changed


class Broadcast:
    """The channels of all pages; `snapshot` returns the newest snapshot."""

    def __init__(self, snapshot: Callable[[], Snapshot]) -> None:
        self._snapshot = snapshot
        self._channels: list[Channel] = []

    def channel(self, view: Renderer) -> Channel:
        """Add a page, and return its channel."""
        self._channels.append(Channel(view))
        return self._channels[-1]

    async def run(self) -> None:
        """Send once a second, until cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S)
                if viewed := [channel for channel in self._channels if channel.is_viewed]:
                    snapshot = self._snapshot()  # one that is not read is not made
                    for channel in viewed:
                        channel.send(snapshot)
                        await asyncio.sleep(0)  # let requests run between two pages
        except Exception:
            log.exception("the pages are no longer updated")
            raise


def add_live_pages(broadcast: Broadcast, snapshot: Callable[[], Snapshot]) -> None:
    """Serve the pages that are made of fragments."""

    def add(path: str, channels: Mapping[str, Channel]) -> None:
        @ui.page(path)
        def show(past: str = "") -> None:
            channel = channels.get(past) or next(iter(channels.values()))
            with frame(path):
                ui.html(laid_out(channel.join(ui.context.client, snapshot())), sanitize=False)

    for page in PAGES:
        if page.view is not None:
            of_range = views.overviews if page.view is views.overview else {"": page.view}
            add(page.path, {past: broadcast.channel(view) for past, view in of_range.items()})


async def show_of_listener(
    path: str, user: str, are_external: bool, read: Callable[[], Awaitable[Markup | None]]
) -> None:
    """Build a page about a listener: who, and what `read` returns, which may take long, None at the end."""

    def go() -> None:
        if wanted := field.value.strip():
            ui.navigate.to(f"{path}/{quote(wanted)}")

    with frame(path):
        with ui.row().classes("search"):
            field = ui.input("listener", value=user).props("outlined dense").on("keydown.enter", go)
            ui.button("show", on_click=go).props("unelevated no-caps")
        if not user:
            show_html("listener", "hint", are_external=are_external)
            return
        waiting = show_html("listener", "reading", user=user)
        # NiceGUI bounds the time to build a page, and a reading may take longer: it begins when the page is shown.
        client = ui.context.client
        await client.connected()
        if client.is_deleted:  # left before it was shown
            return
        try:
            found = await read()
        except (BotifyError, KafkaException, RedisError) as error:
            waiting.delete()
            show_problem(str(error))
            return
        waiting.delete()
        if found is not None:
            ui.html(found, sanitize=False)


def add_listener_page(
    read: Callable[[str], ListenerReading], catalogue: Callable[[], TracksById], *, are_external: bool
) -> None:
    """Serve a listener's page; `read` reads a listener, and blocks, so it is called in a thread."""

    @ui.page(LISTENER)
    @ui.page(f"{LISTENER}/{{user:path}}")
    async def show(user: str = "", page: int = 1) -> None:
        async def drawn() -> Markup | None:
            reading = await run.io_bound(read, user)
            return None if reading is None else views.listener(user, reading, catalogue(), page)

        await show_of_listener(LISTENER, user, are_external, drawn)


def add_why_page(why: Callable[[str, str], Awaitable[Mapping[str, Any]]], *, are_external: bool) -> None:
    """Serve what led to an answer: the one to a request of a listener, or the newest where that is empty."""

    @ui.page(WHY)
    @ui.page(f"{WHY}/{{user:path}}")
    async def show(user: str = "", of: str = "") -> None:
        async def drawn() -> Markup:
            return render("listener", "why", said=await why(user, of))

        await show_of_listener(WHY, user, are_external, drawn)
