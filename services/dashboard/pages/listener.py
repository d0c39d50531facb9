"""One listener's page, read when it is asked for."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import KafkaException
from nicegui import run, ui
from redis.exceptions import RedisError

from schemas.errors import BotifyError
from schemas.validation import MAX_USER
from services.dashboard.figures.catalogue import Catalogue
from services.dashboard.figures.listener import ListenerReading
from services.dashboard.pages.frame import frame
from services.dashboard.views.html import card, empty, prose
from services.dashboard.views.listener import listener

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
