"""Picking favourite tracks: among the popular ones, or by title and artist."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from confluent_kafka import KafkaException
from nicegui import run, ui
from redis.exceptions import RedisError

from core.errors import BotifyError
from schemas.events import Track
from schemas.validation import MAX_USER
from services.dashboard.figures import Catalogue, ListenerReading, search
from services.dashboard.pages.live import frame
from services.dashboard.views.html import card, empty, named_track, prose
from services.dashboard.views.listener import listener


class Favourites:
    """A search field, suggestions to click on, and what was chosen.

    Attributes
    ----------
    chosen : list of int
        Tracks, in the order in which they were chosen.
    """

    SUGGESTED = 12
    MOST = 5

    def __init__(self, catalogue: Callable[[], Catalogue], popular: list[Track]) -> None:
        self._catalogue = catalogue
        self._popular = popular
        self._shown = popular
        self.chosen: list[int] = []
        field = ui.input(placeholder="title or artist", on_change=lambda event: self._search(event.value or ""))
        field.props("outlined dense clearable debounce=250").classes("find")
        self._list = ui.element("div").classes("picks")
        self._show(popular)

    def _search(self, words: str) -> None:
        self._show(search(self._catalogue(), words, self.SUGGESTED) if words.strip() else self._popular)

    def _show(self, tracks: Iterable[Track]) -> None:
        """Show the chosen ones first, so that nobody has to look for them."""
        self._shown = list(tracks)
        catalogue = self._catalogue()
        chosen = [catalogue[track] for track in self.chosen]
        others = [track for track in self._shown if track.track not in self.chosen][: self.SUGGESTED]
        self._list.clear()
        with self._list:
            if not chosen and not others:
                ui.html('<p class="note">no track has these words</p>', sanitize=False)
            for track in (*chosen, *others):
                self._pick(track)

    def _pick(self, track: Track) -> None:
        chosen = track.track in self.chosen
        pick = ui.element("button").classes("pick chosen" if chosen else "pick")
        pick.props(f"type=button aria-pressed={'true' if chosen else 'false'}")
        pick.on("click", lambda: self._toggle(track.track))
        with pick:
            ui.html(named_track(track.title, track.artist), sanitize=False, tag="span")
            ui.icon("favorite" if chosen else "favorite_border")

    def _toggle(self, track: int) -> None:
        if track in self.chosen:
            self.chosen.remove(track)
        elif len(self.chosen) == self.MOST:
            ui.notify(f"{self.MOST} favourites are enough to begin with", type="info")
            return
        else:
            self.chosen.append(track)
        self._show(self._shown)


PATH = "/listener"


def add_listener_page(read: Callable[[int], ListenerReading], catalogue: Callable[[], Catalogue]) -> None:
    """Serve it.

    Parameters
    ----------
    read : callable
        Reads a listener; blocks, so it is called in a thread.
    catalogue : callable
    """

    @ui.page(PATH)
    @ui.page(f"{PATH}/{{user}}")
    async def show(user: str = "") -> None:
        with frame(PATH, "State, sessions, and why each track was recommended"):
            _search(user)
            if not user:
                hint = empty("whose page?", "every listener has a number: the simulator's begin with 0", "☺")
                ui.html(card("Listener", hint), sanitize=False)
            elif not is_user(user):
                _say(f"{user!r} is not a listener: a whole number from 0 to {MAX_USER:,} is")
            else:
                await _show(int(user), read, catalogue())


def is_user(user: str) -> bool:
    """Say whether a text is a listener's id.

    Examples
    --------
    >>> is_user("42"), is_user("-1"), is_user("me")
    (True, False, False)
    """
    return user.isascii() and user.isdecimal() and len(user) <= len(str(MAX_USER)) and int(user) <= MAX_USER


def _search(user: str) -> None:
    def go() -> None:
        wanted = field.value.strip()
        if wanted:
            ui.navigate.to(f"{PATH}/{wanted}")

    with ui.row().classes("search"):
        field = ui.input("listener", value=user).props("outlined dense inputmode=numeric").on("keydown.enter", go)
        ui.button("show", on_click=go).props("unelevated no-caps")


async def _show(user: int, read: Callable[[int], ListenerReading], catalogue: Catalogue) -> None:
    try:
        reading = await run.io_bound(read, user)
    except (BotifyError, KafkaException, RedisError) as error:
        _say(str(error))
        return
    if reading is not None:  # None while the process stops
        ui.html(listener(reading, catalogue), sanitize=False)


def _say(problem: str) -> None:
    ui.html(f'<p class="problem" role="alert">{prose(problem)}</p>', sanitize=False)
