"""Invariant: the loops are compiled, or read from a cache, wherever the installation can be written to."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from botify.core import numba_cache as module


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The cache of a process that has not imported numba yet; temporary folders are next to it."""
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(module.CACHE_DIR, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing but temporary folders can be written to; root could write in spite of a folder's mode."""

    def refuse(**_: object) -> None:
        raise PermissionError

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(module.tempfile, "TemporaryFile", refuse)


def test_each_state_of_the_sources_has_a_folder_which_children_share(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(2):  # a child finds what its parent has set
        module.use_own_cache()
        assert os.environ[module.CACHE_DIR] == str(cache / module.digest_of_sources())
    monkeypatch.setattr(module, "digest_of_sources", lambda: "0123456789abcdef")
    monkeypatch.setenv(module.CACHE_DIR, str(cache))
    module.use_own_cache()
    assert os.environ[module.CACHE_DIR] == str(cache / "0123456789abcdef")


def test_caches_of_other_sources_are_removed_when_they_are_old(cache: Path) -> None:
    old, recent, foreign = (cache / name for name in ("0123456789abcdef", "fedcba9876543210", "not ours"))
    for folder in (old, recent, foreign):
        folder.mkdir(parents=True)
    for folder in (old, foreign):
        os.utime(folder, (0, 0))
    module.use_own_cache()
    assert [folder.exists() for folder in (old, recent, foreign)] == [False, True, True]


def test_a_cache_that_is_read_only_is_copied(cache: Path, read_only: None) -> None:
    compiled = cache / module.digest_of_sources() / "models/loops.nbi"
    compiled.parent.mkdir(parents=True)
    compiled.write_bytes(b"compiled")
    module.use_own_cache()
    copy = Path(os.environ[module.CACHE_DIR])
    assert cache not in copy.parents
    assert (copy / "models/loops.nbi").read_bytes() == b"compiled"
    assert stat.S_IMODE(copy.stat().st_mode) & 0o200


def test_an_installation_that_is_read_only_compiles_into_a_temporary_folder(
    cache: Path, read_only: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(module.CACHE_DIR, "")
    module.use_own_cache()
    assert Path(os.environ[module.CACHE_DIR]).parent == cache.parent


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the compiler stays in memory")
def test_the_compiler_is_given_back_and_compiles_again() -> None:
    program = """\
import numba
from botify.core.numba_cache import give_back_compiler

def of_file() -> int:
    status = open("/proc/self/status").read()
    return int(next(line for line in status.splitlines() if line.startswith("RssFile")).split()[1])

double = numba.njit(lambda x: 2 * x)
assert double(2) == 4
before = of_file()
give_back_compiler()
assert of_file() < before - 20_000, (before, of_file())
assert numba.njit(lambda x: 3 * x)(2) == 6
"""
    subprocess.run((sys.executable, "-c", program), check=True, timeout=120)  # noqa: S603 - the test's own program
