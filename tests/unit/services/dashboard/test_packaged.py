"""What the dashboard serves is in the wheel, from which a container is made."""

from __future__ import annotations

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[4]


def test_every_asset_is_packaged() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    packaged = setuptools["package-data"]["*"]
    assets = list((ROOT / "services/dashboard/static").iterdir())
    assert assets
    assert [asset.name for asset in assets if not any(asset.match(pattern) for pattern in packaged)] == []
