"""Where numba keeps compiled code.

numba uses a cache only where it can write, so a cache that is read-only, like that of an image, is copied. The cache is
for one type of processor: on another one the code is compiled when the process starts.
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
    usual = (configured,) if configured else (str(Path(__file__).parent / "__pycache__"), str(Path.home() / ".cache"))
    if "numba" in sys.modules or any(map(_is_writable, usual)):
        return
    copy = tempfile.mkdtemp(prefix="botify-numba-")
    atexit.register(shutil.rmtree, copy, ignore_errors=True)
    if configured and Path(configured).is_dir():
        shutil.copytree(configured, copy, dirs_exist_ok=True)
    os.environ[CACHE_DIR] = copy


def _is_writable(folder: str) -> bool:
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True
