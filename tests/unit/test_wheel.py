"""The wheel has everything under one name, so that it neither overwrites others nor is hidden by folders of a user."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "docs/runbooks.md")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built in a copy of the sources without an index."""
    place = tmp_path_factory.mktemp("wheel")
    sources = place / "sources"
    folders = [path.name for path in (ROOT / "botify").iterdir() if path.is_symlink()]
    for folder in ("botify", *folders):
        ignored = shutil.ignore_patterns("__pycache__", "node_modules")
        shutil.copytree(ROOT / folder, sources / folder, symlinks=True, ignore=ignored)
    for name in BUILT_FROM:
        (sources / name).parent.mkdir(exist_ok=True)
        shutil.copyfile(ROOT / name, sources / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    built = subprocess.run(  # noqa: S603
        [*build, "--disable-pip-version-check", "--wheel-dir", place, sources], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (found,) = place.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation of the wheel puts into `site-packages`."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def test_all_is_below_one_name(wheel: Path) -> None:
    folders = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert folders == {"botify", f"botify_streams-{version('botify-streams')}.dist-info"}
    assert wheel.name.startswith("botify_streams-")


def test_every_module_and_every_file_that_one_reads_is_there(site: Path) -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    wanted = set()
    for folder in (path for path in (ROOT / "botify").iterdir() if path.is_dir() and path.name != "__pycache__"):
        for path in folder.resolve().rglob("*"):
            if path.is_file() and any(path.match(pattern) for pattern in ("*.py", *patterns)):
                wanted.add(Path(folder.name) / path.relative_to(folder.resolve()))
    there = {path.relative_to(site / "botify") for path in (site / "botify").rglob("*") if path.is_file()}
    assert wanted - there == set()
    assert {path.suffix for path in there} >= {".lua", ".avsc", ".html", ".css", ".ipynb"}
    runbooks = Path("services/dashboard/runbooks.md")
    assert (site / "botify" / runbooks).read_text() == (ROOT / "docs/runbooks.md").read_text()


def test_folders_of_a_user_with_the_names_of_ours_are_not_imported(site: Path, tmp_path: Path) -> None:
    for folder in ("core", "analytics", "bench"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "__init__.py").write_text(f"raise ImportError('{folder}/ is the user\\'s')\n")
    code = (
        "import runpy, sys, botify, botify.analytics.exported, botify.core.settings as own\n"
        "print(botify.__file__, own.__file__)\n"
        "runpy.run_module('botify.services.cli', run_name='__main__')"
    )
    # Python searches the user's folder first, then the wheel's, then the environment's
    command, environ = [sys.executable, "-c", code, "--help"], {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120)  # noqa: S603
    assert done.returncode == 0, done.stderr
    found, _, helped = done.stdout.partition("\n")
    assert found.split() == [str(site / "botify/__init__.py"), str(site / "botify/core/settings.py")]
    assert "evaluate" in helped
    assert "bench" in helped
