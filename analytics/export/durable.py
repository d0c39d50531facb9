"""Files that are there whole or not at all, whatever is killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

UNFINISHED = ".unfinished"
"""End of the name of a file that is being written; it begins with a dot, so that readers of the folder skip it."""


def write_durably(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` make a file beside its place, bring it to the disk, and put it into its place in one step."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    written = write(unfinished)
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)  # the name, too
    return written


def make_folder(path: Path) -> None:
    """Make a folder that is not there yet; the names on the way to it survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
