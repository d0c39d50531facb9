"""CPU time of each process an event: a rate on a shared machine misleads, CPU time does less.

The figures of a measurement have them under `cpu_us`, by the name of the rate that they belong to. The file imports no
other one of the repository, as `bench/older.py` uses it with another commit.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Protocol

import psutil

CPU_US = "cpu_us"
ALL = "all"
ROLES = {
    "botify.streams.worker": "worker",
    "botify.streams.learner": "learner",
    "botify.services.recommender": "recommender",
    "botify.services.gateway": "gateway",
    "botify.bench.dashboard_load": "viewers",
    "botify.bench.plain_faust": "plain_faust",
    "kafka.Kafka": "kafka",
    "valkey-server": "valkey",
}
"""Word of a command line -> the process's name in the figures."""


def role_of(command: Sequence[str]) -> str | None:
    """Return the name of a process in the figures, None if it has none.

    Examples
    --------
    >>> role_of(["python", "-m", "botify.streams.worker"]), role_of(["/opt/bin/valkey-server 127.0.0.1:6379"])
    ('worker', 'valkey')
    """
    words = (Path(word.split(" ")[0]).name for word in command)
    return next((ROLES[word] for word in words if word in ROLES), None)


class Meter:
    """CPU time since the meter was made, by role.

    Parameters
    ----------
    own : str, optional
        Role of this process; without it, its own time is not counted.
    root : psutil.Process, optional
        The process whose descendants are watched; this one by default. One that ends before it is read is not counted.
    """

    def __init__(self, own: str | None = None, root: psutil.Process | None = None) -> None:
        self._own = own
        self._root = root or psutil.Process()
        self._began = self._seconds()
        self._ended_s = _seconds_of_ended()

    def us_per(self, count: float, ended: str | None = None) -> dict[str, float]:
        """Return µs of CPU time an event of each role, and of `all`.

        Parameters
        ----------
        count : float
            Number of events since the meter was made.
        ended : str, optional
            Role of the children of this process that have ended since then; without it, they are not counted.
        """
        found: dict[str, float] = {}
        for pid, (role, seconds) in self._seconds().items():
            _, before = self._began.get(pid, (role, 0.0))
            found[role] = found.get(role, 0.0) + (seconds - before) * 1e6 / count
        if ended is not None:
            found[ended] = (_seconds_of_ended() - self._ended_s) * 1e6 / count
        return {**dict(sorted(found.items())), ALL: sum(found.values())}

    def _seconds(self) -> dict[int, tuple[str, float]]:
        """Return pid -> role and seconds of CPU time."""
        found = {}
        for process in [psutil.Process(), *self._root.children(recursive=True)]:
            try:
                role = self._own if process.pid == os.getpid() else role_of(process.cmdline())
                times = process.cpu_times()
            except psutil.Error:  # it has ended
                continue
            if role is not None:
                found[process.pid] = (role, times.user + times.system)
        return found


@contextmanager
def busy_machine() -> Iterator[None]:
    """Keep all cores busy inside the block, with as many processes; they also end when this one does."""
    busy = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: sum(range(100_000))"
    others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(os.cpu_count() or 1)]  # noqa: S603
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def _seconds_of_ended() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


WARM_LISTENS = 20_000
"""Listens of a run after which CPU time is measured."""


class Progress(Protocol):
    """What a meter reads of a run of the loop."""

    @property
    def listens(self) -> int: ...  # noqa: D102

    @property
    def recommendations(self) -> int: ...  # noqa: D102


class WarmMeter:
    """CPU time an answer once the programs have started and filled their caches."""

    def __init__(self) -> None:
        self._began: tuple[Meter, int] | None = None

    def report(self, progress: Progress) -> None:
        """Start the meter when the run has finished `WARM_LISTENS`."""
        if self._began is None and progress.listens >= WARM_LISTENS:
            self._began = Meter("simulator"), progress.recommendations

    def us_an_answer(self, done: Progress) -> dict[str, float]:
        """Return µs of each process an answer since then; nothing if the run was too short."""
        if self._began is None:
            return {}
        meter, before = self._began
        return meter.us_per(done.recommendations - before) if done.recommendations > before else {}


def medians(rounds: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the median of each figure that all rounds have.

    Examples
    --------
    >>> medians([{"worker": 3.0, "all": 5.0}, {"worker": 1.0, "all": 1.0}, {"worker": 2.0}])
    {'worker': 2.0}
    """
    return {name: median(one[name] for one in rounds) for name in rounds[0] if all(name in one for one in rounds)}


def load_average() -> float:
    """Return the number of processes that wanted to run in the last minute, on average: Linux's first figure."""
    return round(os.getloadavg()[0], 2)
