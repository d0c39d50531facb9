"""Pages that read from servers, in NiceGUI's simulation of a browser."""

from __future__ import annotations

import asyncio
import threading

from nicegui.testing import user_simulation

from core.errors import BotifyError
from schemas.external_ids import UserIds
from services.dashboard.figures import ListenerReading
from services.dashboard.pages import add_listener_page

WAIT_S = 20.0


def test_a_slow_reading_does_not_hold_the_page() -> None:
    released = threading.Event()

    def read(user: int) -> ListenerReading:
        if not released.wait(WAIT_S):
            raise BotifyError("the page waited for the reading")
        return ListenerReading(user, None, 1, ())

    async def visit() -> None:
        async with user_simulation() as browser:
            add_listener_page(read, dict, UserIds())
            await browser.open("/listener/42")
            await browser.should_see("reading listener 42")
            released.set()
            await browser.should_see("listener 42 has no listens", retries=100)
            await browser.should_not_see("reading listener 42")

    asyncio.run(visit())
