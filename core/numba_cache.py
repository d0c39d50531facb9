"""Where numba keeps compiled code, and the arrays that it is called with.

numba compiles a loop again when its own file changes, not when what it imports does. So each state of our sources has a
folder of its own. numba also uses a cache only where it can write, so one that is read-only, like that of an image, is
copied. A cache is for one type of processor: on another one the code is compiled when the process starts.
"""

import atexit
import ctypes
import mmap
import os
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

CACHE_DIR = "NUMBA_CACHE_DIR"
PACKAGES = ("core", "schemas", "streams")
UNUSED_DAYS = 30


def plain_array(values: ArrayLike, dtype: type[np.generic]) -> NDArray[Any]:
    """Return values as compiled loops take them: for a read-only or strided array numba would compile them again."""
    if type(values) is np.ndarray and values.dtype == dtype and values.flags.carray:
        return values  # as `np.require` would, in a fifth of its time
    return np.require(values, dtype, ["C", "A", "W"])


def use_own_cache() -> None:
    """Let numba keep its cache in a folder of these sources; call it before numba is imported.

    The folder is in `NUMBA_CACHE_DIR`, by default in `~/.cache/botify-numba`. If it cannot be written, it is copied to
    a temporary folder that lasts as long as the process.
    """
    if "numba" in sys.modules:
        return
    sources = digest_of_sources()
    base = Path(os.environ.get(CACHE_DIR) or os.path.expanduser("~/.cache/botify-numba"))  # noqa: PTH111 - never raises
    if base.name == sources:  # set by the process that started this one
        base = base.parent
    folder = base / sources
    if _is_writable(folder):
        _remove_unused(base)
    else:
        temporary = tempfile.mkdtemp(prefix="botify-numba-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        if folder.is_dir():
            shutil.copytree(folder, temporary, dirs_exist_ok=True)
        folder = Path(temporary)
    os.environ[CACHE_DIR] = str(folder)


def give_back_compiler() -> None:
    """Take LLVM, 50 MiB, out of memory once all loops are compiled; it is read again if needed. On Linux only."""
    with suppress(OSError, AttributeError):
        madvise = ctypes.CDLL(None, use_errno=True).madvise
        madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
            if "libllvmlite" in line and " r-xp " in line:  # code: nothing was written to it
                begin, end = (int(address, 16) for address in line.split()[0].split("-"))
                madvise(begin, end - begin, mmap.MADV_DONTNEED)


@cache
def digest_of_sources() -> str:
    """Return a digest of all files that compiled code may come from."""
    digest, root = blake2b(digest_size=8), Path(__file__).parent.parent
    for package in PACKAGES:
        for file in sorted((root / package).rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _remove_unused(base: Path) -> None:
    """Remove caches of other sources that were not used for `UNUSED_DAYS`."""
    oldest = time.time() - UNUSED_DAYS * 86_400
    for other in base.iterdir():
        if len(other.name) == len(digest_of_sources()) and other.stat().st_mtime < oldest:
            shutil.rmtree(other, ignore_errors=True)


def _is_writable(folder: Path) -> bool:
    if str(folder).startswith("~"):  # the user has no home
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # also says that the folder is in use
    except OSError:
        return False
    return True
