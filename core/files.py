"""Files: written so that they survive a power cut, and bytes that lie in a file without a name instead of in memory."""

import fcntl
import mmap
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TypeVar

from botify.core.errors import BotifyError

T = TypeVar("T")

UNFINISHED = ".unfinished"  # suffix of a file that is being written; its name begins with a dot: readers skip it


def write_durably(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` create a temporary file, sync it to the disk, and rename it to `path` in one step."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    written = write(unfinished)
    sync(unfinished)
    unfinished.replace(path)
    sync(path.parent)  # the name, too
    return written


def write_secret(path: Path, text: str) -> None:
    """Write a file in one step, readable by its owner only; where the disk is full, the former one stays."""

    def write(new: Path) -> None:
        new.unlink(missing_ok=True)  # one that was left unfinished may be readable by others
        new.touch(mode=0o600)
        new.write_text(text, encoding="utf-8")

    write_durably(path, write)


@contextmanager
def held(lock: Path, busy: BotifyError) -> Iterator[None]:
    """Hold a lock file while the block runs, or raise `busy` if another process holds it."""
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise busy from error
        yield


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


Body = bytes | mmap.mmap  # what is long enough to be either


def mapped(write: Callable[[IO[bytes]], object]) -> Body:
    """Let `write` fill a temporary file, or memory if there is no place for one, and return its mapped content."""
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
