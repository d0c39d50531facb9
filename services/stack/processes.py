"""How the recorded processes of a stack are doing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import psutil

from services.stack.identity import Identity

State = Literal["running", "paused", "ended", "given up"]


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process.

    Attributes
    ----------
    name : str
        As the stack calls it.
    pid : int
        Its number.
    state : State
        `paused` if a signal froze it, `ended` if it is gone, `given up` if it ended too often to be started again.
    uptime_s : float
        Seconds since it was created.
    cpu_percent : float
        Of one core, since the readings began.
    rss_mb : float
        Resident memory in megabytes.
    """

    name: str
    pid: int
    state: State
    uptime_s: float = 0.0
    cpu_percent: float = 0.0
    rss_mb: float = 0.0


class ProcessReader:
    """Reads processes by their identity; its making starts the measuring of their CPU."""

    def __init__(self, identities: Mapping[str, Identity]) -> None:
        self._identities = identities
        self._processes = {name: identity.process() for name, identity in identities.items()}
        for process in self._processes.values():
            _cpu_percent(process)

    def read(self) -> list[ProcessStatus]:
        """Return how each process is doing now."""
        return [self._read(name, identity) for name, identity in self._identities.items()]

    def _read(self, name: str, identity: Identity) -> ProcessStatus:
        process = self._processes[name] if identity.is_alive() else None
        if process is None:
            return ProcessStatus(name, identity.pid, "ended")
        try:
            return ProcessStatus(
                name,
                identity.pid,
                "paused" if process.status() == psutil.STATUS_STOPPED else "running",
                uptime_s=time.time() - identity.created_s,
                cpu_percent=_cpu_percent(process),
                rss_mb=process.memory_info().rss / 1e6,
            )
        except psutil.NoSuchProcess:
            return ProcessStatus(name, identity.pid, "ended")


def _cpu_percent(process: psutil.Process | None) -> float:
    """Return the CPU since the last call, 0 for a process that is gone."""
    try:
        return process.cpu_percent() if process is not None else 0.0
    except psutil.NoSuchProcess:
        return 0.0
