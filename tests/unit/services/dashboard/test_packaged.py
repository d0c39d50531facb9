"""What the dashboard serves is in the wheel, from which the container image is built."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from botify.services.dashboard.troubles import RUNBOOKS

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("folder", ["static", "templates"])
def test_every_asset_is_packaged(folder: str) -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = setuptools["package-data"]["*"]
    assets = list((ROOT / "services/dashboard" / folder).iterdir())
    assert assets
    assert [asset.name for asset in assets if not any(asset.match(pattern) for pattern in packaged)] == []


def test_the_runbooks_are_packaged_and_those_of_the_alerts() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "runbooks.md" in setuptools["package-data"]["*"]
    assert (ROOT / "services/dashboard/runbooks.md").resolve() == ROOT / "docs/runbooks.md"
    assert "!docs/runbooks.md" in (ROOT / ".dockerignore").read_text().splitlines()
    alerts = re.findall(r"- alert: (\w+)", (ROOT / "deploy/prometheus/alerts.yml").read_text())
    assert list(RUNBOOKS) == alerts
