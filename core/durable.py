"""Files that survive a power cut: each is there as it was, or as it is once the call returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

UNFINISHED = ".unfinished"
"""Suffix of a file that is being written; its name begins with a dot, so that readers of the folder skip it."""


def write_durably(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` create a temporary file, sync it to the disk, and rename it to `path` in one step."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    written = write(unfinished)
    sync(unfinished)
    unfinished.replace(path)
    sync(path.parent)  # the name, too
    return written


def make_folder(path: Path) -> None:
    """Create a folder and its parents, so that their names survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        sync(folder.parent)


def sync(path: Path) -> None:
    """Write a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
