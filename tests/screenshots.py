"""`python -m tests.screenshots`: every page of the dashboard as a picture, on a laptop and a phone, light and dark."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, ViewportSize, sync_playwright

from botify.core.kafka.admin import end_offsets
from botify.core.settings import Settings
from botify.schemas.topics import Topics, create_topics
from botify.services.stack.embedded import EmbeddedStack
from tests.dashboard_scene import chromium, gateway, scene
from tests.support import eventually

FOLDER = Path("screenshots")
LISTENS = 60_000
SIZES = {"laptop": ViewportSize(width=1440, height=900), "phone": ViewportSize(width=390, height=844)}
LIGHTS: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SETTLE_MS = 2_500
SIMULATE = "sim --world dashboard --rate 400 --seed 2 --set in_flight=300"
REPLAY = "replay run --rate 300"
PAGES = ("/", "/popular", "/experiments", "/listener/42", "/letters", "/replays")


def main() -> None:
    """Make a deployment, let listeners listen, and take the pictures."""
    path = chromium()
    if path is None:
        sys.exit("no chromium: apt-get install chromium, or name one in BOTIFY_CHROMIUM")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home, EmbeddedStack(Path(home)) as stack, sync_playwright() as driver:
        settings = stack.settings.with_(home=Path(home), topic_prefix="screenshots")
        create_topics(settings)
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        with scene(settings, LISTENS) as ready, _running(settings, SIMULATE, REPLAY):
            before = _listens(settings)
            eventually(lambda: _listens(settings) > before, what="listens of `botify sim`")
            for page, look in _looks(browser):
                _take_pages(page, ready.url, look, PAGES)
                _take_sessions(page, ready.url, look)
        empty = stack.settings.with_(home=Path(home), topic_prefix="screenshots-empty")
        create_topics(empty)
        nowhere = empty.with_(kafka_bootstrap_servers="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0")
        for name, served in (("empty", empty), ("servers-away", nowhere)):
            with gateway(served) as url:
                for page, look in _looks(browser):
                    _take_pages(page, url, look, (*PAGES, "/recommend"), f"{name}-")
        browser.close()


def _listens(settings: Settings) -> int:
    return sum(end_offsets(settings, Topics.of(settings).listens.name).values())


def _looks(browser: Browser) -> Iterator[tuple[Page, str]]:
    """Yield a new page of each size and light, and what its pictures are called."""
    for size, window in SIZES.items():
        for light in LIGHTS:
            context = browser.new_context(viewport=window, color_scheme=light)
            yield context.new_page(), f"{size}-{light}"
            context.close()


def _take_pages(page: Page, url: str, look: str, paths: tuple[str, ...], prefix: str = "") -> None:
    for path in paths:
        page.goto(url + path)
        _picture(page, f"{prefix}{path.strip('/').split('/')[0] or 'overview'}-{look}")


def _take_sessions(page: Page, url: str, look: str) -> None:
    page.goto(f"{url}/recommend")
    page.get_by_role("button", name="A listener, please").click()
    for _ in range(2):
        page.wait_for_timeout(1_000)
        page.locator(".pick").first.click()
    _picture(page, f"recommending-{look}")
    page.goto(f"{url}/listen")
    page.locator(".pick").nth(1).click()
    page.locator(".pick:not(.chosen)").nth(3).click()
    _picture(page, f"listen-{look}")
    page.get_by_role("button", name="Start listening").click()
    for button in ("Next", "Skip", "Next"):
        page.get_by_role("button", name=button).click()
        page.wait_for_timeout(500)
    _picture(page, f"listening-{look}")
    page.get_by_role("button", name="Leave").click()
    _picture(page, f"listened-{look}")


def _picture(page: Page, name: str) -> None:
    window = page.viewport_size
    assert window is not None
    page.wait_for_timeout(SETTLE_MS)
    # a window as high as the page, so that what is fixed to its edges stands at the page's
    whole = max(window["height"], page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": window["width"], "height": whole})
    page.screenshot(path=FOLDER / f"{name}.png")
    page.set_viewport_size(window)


@contextmanager
def _running(settings: Settings, *commands: str) -> Iterator[None]:
    """Run commands of `botify` inside the block."""
    botify = [sys.executable, "-m", "botify.services.cli"]
    environment = {**os.environ, **settings.to_env()}
    with ExitStack() as started:
        for command in commands:
            process = subprocess.Popen([*botify, *command.split()], env=environment, stdout=subprocess.DEVNULL)  # noqa: S603
            started.callback(process.wait, 20)
            started.callback(process.terminate)
        yield


if __name__ == "__main__":
    main()
