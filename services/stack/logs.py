"""The log files of child processes, kept within bounds."""

from __future__ import annotations

import os
import shutil
from collections import deque
from pathlib import Path

MAX_BYTES = 10_000_000


def bound(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Move a log that has grown too big aside, as `<name>.1`, and go on with an empty one.

    The file is copied and emptied rather than renamed, because the child keeps it open; the child appends
    (`O_APPEND`), so it goes on at the new end. Lines written between the copy and the emptying are lost.
    """
    if path.exists() and path.stat().st_size > max_bytes:
        shutil.copyfile(path, path.with_name(path.name + ".1"))
        os.truncate(path, 0)


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or nothing where there is none."""
    try:
        with path.open(encoding="utf-8", errors="replace") as log:
            return "".join(deque(log, maxlen=lines)).rstrip()
    except FileNotFoundError:
        return ""
