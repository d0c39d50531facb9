"""Invariant: imports go one way, and a recommender cannot peep into the simulator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OURS = {"schemas", "streams", "services", "sim", "analytics"}
ALLOWED = {
    "schemas": {"schemas"},
    "streams": {"streams", "schemas"},
    "services": {"services", "streams", "schemas"},
    "sim": {"sim", "schemas"},
    "analytics": {"analytics", "schemas"},
}


def imports(package: str) -> Iterator[tuple[Path, int, str]]:
    """Every module that a package's files import, those inside functions included."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
                names = [node.module or ""]
            else:
                continue
            for name in names:
                yield path.relative_to(ROOT), node.lineno, name


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports(package)
        if (top := name.partition(".")[0]) in OURS and top not in ALLOWED[package]
    ]
    assert not wrong


def test_the_recommender_sees_the_read_side_of_state_only() -> None:
    writing = ("streams.worker", "streams.offline", "streams.replay", "streams.store.redis_store")
    wrong = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports("services/recommender")
        if name.startswith(writing)
    ]
    assert not wrong


def test_folds_know_no_server_and_no_clock() -> None:
    forbidden = {"asyncio", "time", "datetime", "random", "confluent_kafka", "aiokafka", "redis", "faust", "os"}
    wrong = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports("streams/folds")
        if name.partition(".")[0] in forbidden
    ]
    assert not wrong
