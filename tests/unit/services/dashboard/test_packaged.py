"""What the dashboard serves is in the wheel, from which the container image is built."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]


@pytest.mark.parametrize("folder", ["static", "templates"])
def test_every_asset_is_packaged(folder: str) -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = setuptools["package-data"]["*"]
    assets = list((ROOT / "services/dashboard" / folder).iterdir())
    assert assets
    assert [asset.name for asset in assets if not any(asset.match(pattern) for pattern in packaged)] == []
