"""Our own programs as child processes of a benchmark."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from schemas.settings import Settings


@contextmanager
def running(
    settings: Settings, module: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Run a module, and stop it at the end of the block; where it ended by itself, its log says why."""
    path = settings.home / f"bench-{module}.log"
    log = path.open("ab")
    child = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", module, *arguments],
        env={**os.environ, **settings.to_env(), **(environ or {})},
        stderr=log,
        stdout=log,
    )
    try:
        yield psutil.Process(child.pid)
    finally:
        log.close()
        if child.poll() is not None:
            sys.stderr.write(path.read_text(encoding="utf-8", errors="replace")[-4000:])
        child.terminate()
        child.wait(30)


def rss_mib(process: psutil.Process) -> float:
    """Return the memory that a process has in RAM, in MiB."""
    return float(process.memory_info().rss) / 2**20
