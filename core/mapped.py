"""Bytes that lie in a file without a name instead of in memory: read like `bytes`, and gone with the last reference."""

from __future__ import annotations

import mmap
import os
import tempfile
from collections.abc import Callable
from typing import IO

Body = bytes | mmap.mmap
"""What is long enough to be either."""


def mapped(write: Callable[[IO[bytes]], object]) -> Body:
    """Let `write` fill a temporary file, and return its content; pages are loaded as they are read.

    Where no directory for temporary files is writable, or the disk is full, `write` fills a file in memory instead.

    Examples
    --------
    >>> mapped(lambda file: file.write(b"abc"))[:2]
    b'ab'
    """
    try:
        with tempfile.TemporaryFile(prefix="botify-") as file:
            return _filled(file, write)
    except OSError:
        with os.fdopen(os.memfd_create("botify"), "w+b") as file:
            return _filled(file, write)


def _filled(file: IO[bytes], write: Callable[[IO[bytes]], object]) -> Body:
    write(file)
    if not file.tell():
        return b""
    file.flush()
    return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def release(body: Body) -> None:
    """Take a body's pages out of this process's memory; they are read again when they are needed."""
    if isinstance(body, mmap.mmap):
        body.madvise(mmap.MADV_DONTNEED)
