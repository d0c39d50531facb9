"""Invariant: imports go one way, and a recommender cannot peep into the simulator."""

import ast
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world, worlds_directory

ROOT = Path(__file__).parents[2]
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
(PURE,) = (one["source_modules"] for one in CONTRACTS if one["name"].startswith("Rules of the domain"))
TINY_WORLD = WorldConfig(tracks=40, artists=8, genres=2, users=4, dimensions=4, clusters=2)


def files(place: str, root: Path = ROOT) -> list[Path]:
    at = root / place
    return sorted(at.rglob("*.py")) if at.is_dir() else [at]


@cache
def nodes_of(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def nodes(place: str, root: Path = ROOT) -> Iterator[tuple[Path, ast.AST]]:
    for path in files(place, root):
        for node in nodes_of(path):
            yield path.relative_to(root), node


def imports(found: Iterable[tuple[Path, ast.AST]]) -> Iterator[tuple[Path, int, str]]:
    for path, node in found:
        if isinstance(node, ast.Import):
            yield from ((path, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are written in full"
            yield path, node.lineno, node.module or ""


def texts(place: str, root: Path = ROOT) -> Iterator[tuple[Path, int, str]]:
    found = list(nodes(place, root))
    prose = {id(node.value) for _, node in found if isinstance(node, ast.Expr)}
    for path, node in found:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield path, node.lineno, node.value


def peeps(place: str, world_files: set[str], root: Path = ROOT) -> list[str]:
    """Where a folder's code imports the simulator, by name or at run time, or names a file of a world."""
    imported = [
        f"{path}:{line} imports {name}"
        for path, line, name in imports(nodes(place, root))
        if re.match(r"(botify\.)?sim\b", name)
    ]
    named = [
        f"{path}:{line} names {text!r}"
        for path, line, text in texts(place, root)
        if text == "botify.sim" or text.startswith(("sim.", "botify.sim.")) or any(file in text for file in world_files)
    ]
    return imported + named


@pytest.fixture(scope="module")
def world_files(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    home = tmp_path_factory.mktemp("home")
    written = save_world(home, World("tiny", *generate(TINY_WORLD), {}))
    return {f"{worlds_directory(home).name}", *(path.name for path in written.iterdir())}


@pytest.mark.parametrize("path", sorted((ROOT / "analytics/notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_import_public_modules_of_all_but_the_benchmark(path: Path) -> None:
    cells = [cell for cell in json.loads(path.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    lines = [line for cell in cells for line in "".join(cell["source"]).splitlines() if not line.startswith(("%", "!"))]
    imported = {name for _, _, name in imports((path, node) for node in ast.walk(ast.parse("\n".join(lines))))}
    ours = {name for name in imported if name.partition(".")[0] == "botify"}
    assert ours
    assert not [name for name in ours if name.startswith("botify.bench") or "._" in name]
    assert not [name for name in ours if not importlib.util.find_spec(name)]


@pytest.mark.parametrize("package", ["services", "streams"])
def test_what_learns_and_recommends_neither_imports_the_simulator_nor_reads_its_files(
    package: str, world_files: set[str]
) -> None:
    assert peeps(package, world_files) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("import botify.sim", "imports botify.sim"),
        ("import numpy, botify.sim.world.store", "imports botify.sim.world.store"),
        ("def f(): from botify.sim.world import model", "imports botify.sim.world"),
        ("importlib.import_module('botify.sim.world')", "names 'botify.sim.world'"),
        ("def f(home): return home / 'worlds'", "names 'worlds'"),
        ("open(f'{place}/users.json')", "names '/users.json'"),
        ("np.load('embeddings.npy')", "names 'embeddings.npy'"),
    ],
)
def test_peeping_is_found(line: str, found: str, world_files: set[str], tmp_path: Path) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "peeping.py").write_text(f'"""Not of sim: worlds."""\n{line}\n', encoding="utf-8")
    assert peeps("services", world_files, tmp_path) == [f"services/peeping.py:2 {found}"]


@pytest.mark.parametrize("module", PURE)
def test_rules_of_the_domain_know_no_server_and_no_clock(module: str) -> None:
    place = module.removeprefix("botify.").replace(".", "/")
    place += "" if (ROOT / place).is_dir() else ".py"
    forbidden = {"asyncio", "time", "datetime", "random", "confluent_kafka", "aiokafka", "redis", "faust", "os"}
    found = [(name.partition(".")[0], f"{path}:{line} imports {name}") for path, line, name in imports(nodes(place))]
    assert not [why for package, why in found if package in forbidden]


def test_no_module_is_imported_by_the_name_of_its_folder() -> None:
    folders = {path.name for path in (ROOT / "botify").iterdir() if path.is_symlink()}
    line = re.compile(rf"^ *(from|import) +({'|'.join(folders)})\b.*", re.M)  # a tenth of the time of parsing all
    found = [
        f"{path}: {one[0]}"
        for place in (*folders, "botify/client", "examples", "tests")
        for path in files(place)
        for one in line.finditer(path.read_text(encoding="utf-8"))
    ]
    assert len(folders) == 9
    assert not found
