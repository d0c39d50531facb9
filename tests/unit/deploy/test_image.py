"""The labels of the container image, as the Dockerfile declares them; tests/e2e/compose builds it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[3]
RUN_STAGE = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")[-1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LABELS = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', RUN_STAGE))
DEFAULTS = dict(re.findall(r"^ARG (\w+)=(\S+)$", RUN_STAGE, re.MULTILINE))


def test_labels_are_those_of_the_project() -> None:
    assert LABELS["licenses"] == PROJECT["license"]
    assert PROJECT["description"].startswith(LABELS["description"])


def test_version_revision_and_source_are_build_arguments_with_honest_defaults() -> None:
    assert {name: LABELS[name] for name in ("version", "revision", "source")} == {
        "version": "$VERSION", "revision": "$REVISION", "source": "$SOURCE",
    }  # fmt: skip
    assert (DEFAULTS["VERSION"], DEFAULTS["REVISION"], DEFAULTS["SOURCE"]) == (PROJECT["version"], "unknown", "unknown")


def test_they_invalidate_no_layer() -> None:
    """An argument is part of the key of each RUN behind it."""
    assert "RUN " not in RUN_STAGE[RUN_STAGE.index("ARG ") :]
