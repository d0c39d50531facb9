"""`python -m tests.screenshots`: every page of the dashboard as a picture, on a laptop and a phone, light and dark."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from botify.core.settings import Settings
from botify.schemas.topics import create_topics
from botify.services.stack.embedded import EmbeddedStack
from tests.dashboard_scene import chromium, gateway, scene

FOLDER = Path("screenshots")
LISTENS = 60_000
SIZES = {"laptop": (1440, 900), "phone": (390, 844)}
SETTLE_MS = 2_500
SIMULATE = "sim --world dashboard --rate 400 --seed 2 --set in_flight=300"
REPLAY = "replay run --rate 300"
LOOKS = [(size, light) for size in SIZES for light in ("light", "dark")]
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
            for size, light in LOOKS:
                _take_all(browser, ready.url, size, light)
        empty = stack.settings.with_(home=Path(home), topic_prefix="screenshots-empty")
        create_topics(empty)
        with gateway(empty) as url:
            _take_each(browser, url, "empty")
        nowhere = empty.with_(kafka_bootstrap_servers="127.0.0.1:1", redis_url="redis://127.0.0.1:1/0")
        with gateway(nowhere) as url:
            _take_each(browser, url, "servers-away")
        browser.close()


def _take_all(browser: Browser, url: str, size: str, light: str) -> None:
    for path in PAGES:
        _take(browser, url, path, size, light)
    page = _open(browser, size, light)
    page.goto(f"{url}/recommend")
    page.get_by_role("button", name="A listener, please").click()
    for _ in range(2):
        page.wait_for_timeout(1_000)
        page.locator(".pick").first.click()
    _picture(page, "recommending", size, light)
    page.goto(f"{url}/listen")
    page.locator(".pick").nth(1).click()
    page.locator(".pick:not(.chosen)").nth(3).click()
    _picture(page, "listen", size, light)
    page.get_by_role("button", name="Start listening").click()
    for button in ("Next", "Skip", "Next"):
        page.get_by_role("button", name=button).click()
        page.wait_for_timeout(500)
    _picture(page, "listening", size, light)
    page.get_by_role("button", name="Leave").click()
    _picture(page, "listened", size, light)
    page.context.close()


def _take_each(browser: Browser, url: str, name: str) -> None:
    for size, light in LOOKS:
        for path in (*PAGES, "/recommend"):
            _take(browser, url, path, size, light, f"{name}-{_name(path)}")


def _name(path: str) -> str:
    return path.strip("/").split("/")[0] or "overview"


def _take(browser: Browser, url: str, path: str, size: str, light: str, name: str | None = None) -> None:
    page = _open(browser, size, light)
    page.goto(url + path)
    _picture(page, name or _name(path), size, light)
    page.context.close()


def _open(browser: Browser, size: str, light: str) -> Page:
    width, height = SIZES[size]
    return browser.new_context(viewport={"width": width, "height": height}, color_scheme=light).new_page()  # type: ignore[arg-type]


def _picture(page: Page, name: str, size: str, light: str) -> None:
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.wait_for_timeout(SETTLE_MS)
    # a window as high as the page, so that what is fixed to its edges stands at the page's
    whole = max(height, page.evaluate("document.documentElement.scrollHeight"))
    page.set_viewport_size({"width": width, "height": whole})
    page.screenshot(path=FOLDER / f"{name}-{size}-{light}.png")


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
