"""Pages that read from servers, in NiceGUI's simulation of a browser."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from nicegui.testing import user_simulation

from botify.core.errors import BotifyError
from botify.schemas.external_ids import UserIds
from botify.services.dashboard.figures import ListenerReading, Snapshot
from botify.services.dashboard.listening import add_listen_page
from botify.services.dashboard.pages import add_listener_page
from botify.services.dashboard.recommending import add_recommend_page

WAIT_S = 20.0


@pytest.fixture(autouse=True)
def modules_stay() -> Iterator[None]:
    """NiceGUI's simulation forgets modules with pages and the packages around them, which other modules still use."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "botify"}
    yield
    sys.modules.update(before)


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


@pytest.mark.parametrize(
    ("problems", "said"), [((), "the catalogue is empty"), (("no Kafka answers",), "no Kafka answers")]
)
def test_without_tracks_nobody_can_play_and_the_page_says_why(problems: tuple[str, ...], said: str) -> None:
    known = SimpleNamespace(catalogue={}, experiments=None, snapshot=Snapshot(problems=problems))

    async def visit() -> None:
        async with user_simulation() as browser:
            add_listen_page(MagicMock(), known, UserIds())
            add_recommend_page(Path(), MagicMock(), known, UserIds())
            for path in ("/listen", "/recommend"):
                await browser.open(path)
                await browser.should_see(said)
                await browser.should_not_see("A listener, please")

    asyncio.run(visit())
