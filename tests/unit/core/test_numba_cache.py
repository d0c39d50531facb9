"""Invariant: the loops are compiled, or read from a cache, wherever the installation can be written to."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from core import numba_cache as module

pytest.importorskip("numba")
FILL = (sys.executable, "-c", "from streams.learner.models.next_track import warm_up; warm_up()")


@pytest.fixture
def no_numba(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A process that has not imported numba yet; temporary folders are here."""
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    monkeypatch.setattr(module.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv(module.CACHE_DIR, "")
    return tmp_path


@pytest.fixture
def read_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but temporary folders can be written to; root could write in spite of a folder's mode."""
    monkeypatch.setattr(module, "_is_writable", lambda _: False)


def test_a_cache_that_can_be_written_to_is_used_as_it_is(no_numba: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = no_numba / "cache"
    monkeypatch.setenv(module.CACHE_DIR, str(cache))
    module.use_writable_cache()
    assert os.environ[module.CACHE_DIR] == str(cache)
    assert cache.is_dir()


def test_a_cache_that_is_read_only_is_copied(no_numba: Path, read_only: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = no_numba / "cache"
    (cache / "models").mkdir(parents=True)
    (cache / "models/loops.nbi").write_bytes(b"compiled")
    monkeypatch.setenv(module.CACHE_DIR, str(cache))
    module.use_writable_cache()
    copy = Path(os.environ[module.CACHE_DIR])
    assert copy != cache
    assert (copy / "models/loops.nbi").read_bytes() == b"compiled"
    assert stat.S_IMODE(copy.stat().st_mode) & 0o200


def test_an_installation_that_is_read_only_compiles_into_a_temporary_folder(no_numba: Path, read_only: None) -> None:
    module.use_writable_cache()
    assert Path(os.environ[module.CACHE_DIR]).parent == no_numba


def test_the_cache_is_filled(tmp_path: Path) -> None:
    """With the compiler switched off: what it would compile only runs."""
    env = {**os.environ, module.CACHE_DIR: str(tmp_path), "NUMBA_DISABLE_JIT": "1"}
    subprocess.run(FILL, check=True, env=env)  # noqa: S603 - our own module
