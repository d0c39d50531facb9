"""Our own programs as child processes of a benchmark."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import psutil

from schemas.settings import Settings
from services.stack.child import ChildProcess
from services.stack.watchdog import Watchdog


@contextmanager
def running(
    settings: Settings, module: str, *arguments: str, environ: Mapping[str, str] | None = None
) -> Iterator[psutil.Process]:
    """Run a module, and stop it at the end of the block; where it ended by itself, its log says why."""
    watchdog = Watchdog()
    child = ChildProcess(
        module,
        [sys.executable, "-m", module, *arguments],
        log_path=settings.home / f"bench-{module}.log",
        watchdog=watchdog,
        env={**settings.to_env(), **(environ or {})},
    )
    try:
        child.spawn()
        yield psutil.Process(child.pid)
    finally:
        if not child.running:
            sys.stderr.write(child.death_notice())
        child.stop()
        watchdog.close()


def rss_mib(process: psutil.Process) -> float:
    """Return the memory that a process has in RAM, in MiB."""
    return float(process.memory_info().rss) / 2**20
