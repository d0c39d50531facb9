"""The documentation, opened from the disk by a browser without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site: that of `make docs`, a step before the tests in `.ci/run`, if no page has changed since."""
    built, sources = ROOT / "build/site/index.html", [ROOT / "mkdocs.yml", *(ROOT / "docs").rglob("*.*")]
    if built.exists() and built.stat().st_mtime > max(path.stat().st_mtime for path in sources):
        return built.parent
    folder = tmp_path_factory.mktemp("site")
    build = [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True)  # noqa: S603
    return folder


def test_the_search_finds_pages_without_a_server(site: Path, browser: Browser) -> None:
    page = browser.new_page(viewport={"width": 1440, "height": 900})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "replay.html").as_uri())
    page.get_by_role("textbox", name="Search").click()
    page.keyboard.type("runbooks")
    page.locator("a.md-search-result__link").first.click(timeout=20_000)
    assert page.url.startswith(site.as_uri())
    assert page.url != (site / "replay.html").as_uri()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
