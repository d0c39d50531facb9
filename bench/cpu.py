"""CPU time of each process an event, which other work on a machine changes less than rates: `cpu_us` of figures."""

import os
import resource
from collections.abc import Sequence
from pathlib import Path

import psutil

from botify.sim.play import Progress

CPU_US = "cpu_us"
ALL = "all"
ROLES = {  # word of a command line -> the process's name in the figures
    "botify.streams.worker": "worker",
    "botify.streams.learner": "learner",
    "botify.services.recommender": "recommender",
    "botify.services.gateway": "gateway",
    "botify.bench.peers": "peer",
    "KafkaStreamsPeer.java": "peer",
    "kafka.Kafka": "kafka",
    "valkey-server": "valkey",
}


def role_of(command: Sequence[str]) -> str | None:
    words = (Path(word.split(" ")[0]).name for word in command)
    return next((ROLES[word] for word in words if word in ROLES), None)


class Meter:
    """CPU time since the meter was made, of the descendants of `root`, by role; ended ones are not counted.

    The time of this process itself counts for the role `own`, if there is one.
    """

    def __init__(self, own: str | None = None, root: psutil.Process | None = None) -> None:
        self._own = own
        self._root = root or psutil.Process()
        self._began = self._seconds()
        self._ended_s = _seconds_of_ended()

    def us_per(self, count: float, ended: str | None = None) -> dict[str, float]:
        """Return µs of CPU time an event of each role, and of `all`; children that have ended count for `ended`."""
        found: dict[str, float] = {}
        for pid, (role, seconds) in self._seconds().items():
            _, before = self._began.get(pid, (role, 0.0))
            found[role] = found.get(role, 0.0) + (seconds - before) * 1e6 / count
        if ended is not None:
            found[ended] = (_seconds_of_ended() - self._ended_s) * 1e6 / count
        return {**dict(sorted(found.items())), ALL: sum(found.values())}

    def _seconds(self) -> dict[int, tuple[str, float]]:
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


def _seconds_of_ended() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


WARM_LISTENS = 20_000  # listens of the loop after which CPU time is measured


class WarmMeter:
    """CPU time an answer once the programs have started and filled their caches."""

    def __init__(self) -> None:
        self._began: tuple[Meter, int] | None = None

    def report(self, progress: Progress) -> None:
        if self._began is None and progress.listens >= WARM_LISTENS:
            self._began = Meter("simulator"), progress.recommendations

    def us_an_answer(self, done: Progress) -> dict[str, float]:
        """Return µs of each process an answer since then; nothing if there were too few listens."""
        if self._began is None:
            return {}
        meter, before = self._began
        return meter.us_per(done.recommendations - before) if done.recommendations > before else {}


def load_average() -> float:
    return round(os.getloadavg()[0], 2)
