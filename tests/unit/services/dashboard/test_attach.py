"""The dashboard in the gateway: its address, and who gets in."""

import asyncio
import multiprocessing
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import pytest
from nicegui import core
from nicegui.testing import user_simulation

from botify.core.errors import BotifyError
from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.services.dashboard import attach
from botify.services.dashboard.figures import ListenerReading
from botify.services.dashboard.pages import add_listener_page, add_why_page
from botify.services.gateway import GatewayOptions
from botify.services.gateway.bootstrap import build_app


def answers(paths: Sequence[str], options: GatewayOptions, token: str) -> list[tuple[int, str | None]]:
    """Ask for pages, and return the status and location of each; once per process, like `attach`."""
    app = build_app(Settings(), options, home="/ui")
    attach(app, Settings(), UserIds())
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Accept": "text/html", "Authorization": f"Bearer {token}"}

    async def scenario() -> list[tuple[int, str | None]]:
        core.loop = asyncio.get_running_loop()
        async with httpx.AsyncClient(transport=transport, base_url="http://evil.example", headers=headers) as client:
            found = [await client.get(path) for path in paths]
            return [(answer.status_code, answer.headers.get("location")) for answer in found]

    return asyncio.run(scenario())


def in_a_process(paths: Sequence[str], options: GatewayOptions, token: str = "") -> list[tuple[int, str | None]]:
    with multiprocessing.get_context("spawn").Pool(1) as process:
        return process.apply(answers, (paths, options, token))


def test_no_address_redirects_to_the_host_that_the_client_names() -> None:
    found = in_a_process(["/", "/ui", "/ui/popular/", "/docs/"], GatewayOptions())
    assert found == [(307, "/ui"), (307, "/ui/"), (404, None), (404, None)]


def test_the_pages_take_a_token_that_allows_admin() -> None:
    options = GatewayOptions(token="serve:reader write:reader admin:keeper")  # noqa: S106 - a test's
    pages = ["/ui", "/ui/", "/ui/popular", "/ui/listener/42", "/ui/static/dashboard.css", "/ui/_nicegui_ws/socket.io"]
    assert {status for status, _ in in_a_process(pages, options)} == {401}
    assert {status for status, _ in in_a_process(pages, options, "reader")} == {403}
    allowed = [status for status, _ in in_a_process(pages, options, "keeper")]
    assert allowed[:3] == [307, 200, 200]
    assert not {401, 403} & set(allowed)


@pytest.fixture(autouse=True)
def modules_stay() -> Iterator[None]:
    """NiceGUI's simulation forgets modules with pages and the packages around them, which other modules still use."""
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "botify"}
    yield
    sys.modules.update(before)


async def test_why_says_what_the_gateway_answers() -> None:
    async def why(user: str, request: str) -> Mapping[str, Any]:
        raise BotifyError(f"no answer to {request} of {user}")

    async with user_simulation() as browser:
        add_why_page(why, are_external=False)
        await browser.open("/why/ann?of=r-1")
        await browser.should_see("no answer to r-1 of ann", retries=100)


async def test_a_slow_reading_does_not_hold_the_page() -> None:
    released = threading.Event()

    def read(user: str) -> ListenerReading:
        if not released.wait(20.0):
            raise BotifyError("the page waited for the reading")
        return ListenerReading(None, 1, ())

    async with user_simulation() as browser:
        add_listener_page(read, dict, are_external=False)
        await browser.open("/listener/42")
        await browser.should_see("reading listener 42")
        released.set()
        await browser.should_see("listener 42 has no listens", retries=100)
        await browser.should_not_see("reading listener 42")
