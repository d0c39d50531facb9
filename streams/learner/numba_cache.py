"""Where numba keeps the compiled loops of `next_track`, and how they get there before they are needed.

Compiling takes about 20 s of CPU time, reading the cache about one. numba uses a cache only where it can write, so a
cache that is read-only, like that of an image, is copied. The cache is for one type of processor: on another one the
loops are compiled when the process starts.

`python -m streams.learner.numba_cache` fills the cache.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from pathlib import Path

CACHE_DIR = "NUMBA_CACHE_DIR"


def use_writable_cache() -> None:
    """Let numba keep its cache in a temporary folder if it cannot write where it would; before numba is imported."""
    configured = os.environ.get(CACHE_DIR)
    usual = (
        (configured,)
        if configured
        else (str(Path(__file__).parent / "models/__pycache__"), str(Path.home() / ".cache"))
    )
    if "numba" in sys.modules or any(map(_is_writable, usual)):
        return
    copy = tempfile.mkdtemp(prefix="botify-numba-")
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    if configured and Path(configured).is_dir():
        shutil.copytree(configured, copy, dirs_exist_ok=True)
    os.environ[CACHE_DIR] = copy


def warm_up() -> None:
    """Compile the loops, or read them from the cache.

    Processes that learn or serve do this before they are ready.
    """
    from streams.learner.models.next_track import NextTrack

    model = NextTrack()
    model.learn([1, 1, 2], [7, 8, 7], [1.0, 1.0, 1.0], [1, 2, 3])
    model.rank_histories([7], [1.0], [1], 1)


def _is_writable(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


if __name__ == "__main__":
    warm_up()
