"""Invariant: imports go one way, and a recommender cannot peep into the simulator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from sim.world.config import WorldConfig
from sim.world.generate import generate
from sim.world.model import World
from sim.world.store import save_world, worlds_directory

ROOT = Path(__file__).parents[2]
OURS = {"core", "schemas", "streams", "services", "sim", "analytics"}
ALLOWED = {
    "core": {"core"},
    "schemas": {"schemas", "core"},
    "streams": {"streams", "schemas", "core"},
    "services": {"services", "streams", "schemas", "core"},
    "sim": {"sim", "schemas", "core"},
    "analytics": {"analytics", "schemas", "core"},
}
PURE = ("streams/folds", "streams/learner/models", "streams/learner/learner.py", "streams/learner/sessions.py")
TINY_WORLD = WorldConfig(tracks=40, artists=8, genres=2, users=4, dimensions=4, clusters=2)


def nodes(place: str, root: Path = ROOT) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of the syntax trees of a folder's files, or of one file."""
    at = root / place
    for path in sorted(at.rglob("*.py")) if at.is_dir() else [at]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            yield path.relative_to(root), node


def imports(place: str, root: Path = ROOT) -> Iterator[tuple[Path, int, str]]:
    """Every module that is imported, inside functions too."""
    for path, node in nodes(place, root):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield path, node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            yield path, node.lineno, node.module or ""


def texts(place: str, root: Path = ROOT) -> Iterator[tuple[Path, int, str]]:
    """Every text in the code, parts of f-strings too, but for docstrings and comments."""
    found = list(nodes(place, root))
    prose = {id(node.value) for _, node in found if isinstance(node, ast.Expr)}
    for path, node in found:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield path, node.lineno, node.value


def peeps(place: str, world_files: set[str], root: Path = ROOT) -> list[str]:
    """Where a folder's code imports the simulator, by name or at run time, or names a file of a world."""
    imported = [
        f"{path}:{line} imports {name}" for path, line, name in imports(place, root) if name.partition(".")[0] == "sim"
    ]
    named = [
        f"{path}:{line} names {text!r}"
        for path, line, text in texts(place, root)
        if text.startswith("sim.") or any(file in text for file in world_files)
    ]
    return imported + named


@pytest.fixture(scope="module")
def world_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The folder of worlds and what is in each, as the simulator writes them."""
    home = tmp_path_factory.mktemp("home")
    written = save_world(home, World("tiny", *generate(TINY_WORLD), {}))
    return {f"{worlds_directory(home).name}", *(path.name for path in written.iterdir())}


@pytest.mark.parametrize("package", sorted(OURS))
def test_a_package_imports_only_what_it_may(package: str) -> None:
    wrong = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports(package)
        if (top := name.partition(".")[0]) in OURS and top not in ALLOWED[package]
    ]
    assert not wrong


@pytest.mark.parametrize("package", ["services", "streams"])
def test_what_learns_and_recommends_neither_imports_the_simulator_nor_reads_its_files(
    package: str, world_files: set[str]
) -> None:
    assert peeps(package, world_files) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import sim", "imports sim"),
        ("import numpy, sim.world.store", "imports sim.world.store"),
        ("def f(): from sim.world import model", "imports sim.world"),
        ("importlib.import_module('sim.world')", "names 'sim.world'"),
        ("def f(home): return home / 'worlds'", "names 'worlds'"),
        ("open(f'{place}/users.json')", "names '/users.json'"),
        ("np.load('embeddings.npy')", "names 'embeddings.npy'"),
    ],
)
def test_peeping_is_found(line: str, found: str, world_files: set[str], tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "peeping.py").write_text(f'"""Not of sim: worlds."""\n{line}\n', encoding="utf-8")
    assert peeps("services", world_files, tmp_path) == [f"services/peeping.py:2 {found}"]


def test_the_recommender_sees_the_read_side_of_state_only() -> None:
    writing = (
        "streams.worker",
        "streams.offline",
        "streams.replay",
        "streams.store.redis_store",
        "streams.learner.app",
        "streams.learner.partition",
    )
    wrong = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports("services/recommender")
        if name.startswith(writing)
    ]
    assert not wrong


@pytest.mark.parametrize("place", PURE)
def test_folds_know_no_server_and_no_clock(place: str) -> None:
    forbidden = {"asyncio", "time", "datetime", "random", "confluent_kafka", "aiokafka", "redis", "faust", "os"}
    wrong = [
        f"{path}:{line} imports {name}" for path, line, name in imports(place) if name.partition(".")[0] in forbidden
    ]
    assert not wrong
