"""Supervision of child processes: a child that ends is restarted, up to a number of times per minute.

A child that has an obstacle, such as a Kafka whose disk is full, is stopped until it is gone.

Beyond that number, a program stays stopped while everything else keeps running, because the repair needs the servers.
A server beyond that number ends the whole stack, which cannot work without it.
"""

from __future__ import annotations

import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal

import psutil

from botify.services.errors import ChildDiedError
from botify.services.stack.record import Identity, StackRecord
from botify.services.stack.server import ChildProcess, bound, tail

WINDOW_S = 60.0
LIMIT = 5
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 10.0


class Restarts:
    """The restarts of one process: the delay doubles within a burst, and at most `limit` are made in a minute.

    Examples
    --------
    >>> restarts = Restarts(limit=2)
    >>> [restarts.update(now_s=t) for t in (0.0, 1.0, 2.0)]
    [0.5, 1.0, None]
    >>> restarts.update(now_s=100.0)
    0.5
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._times_s: deque[float] = deque(maxlen=limit)

    def update(self, now_s: float) -> float | None:
        """Add a crash; return the delay before the restart in seconds, or None beyond the limit."""
        while self._times_s and now_s - self._times_s[0] >= WINDOW_S:
            self._times_s.popleft()
        if len(self._times_s) >= self._limit:
            return None
        delay_s: float = min(FIRST_DELAY_S * 2.0 ** len(self._times_s), MAX_DELAY_S)
        self._times_s.append(now_s)
        return delay_s


Program = tuple[str, list[str]]  # name and command line


def programs(workers: int, recommenders: int, learners: int = 0, gateways: int = 0) -> list[Program]:
    """Return the programs of a stack."""
    counts = {
        "worker": ("botify.streams.worker", workers),
        "learner": ("botify.streams.learner", learners),
        "recommender": ("botify.services.recommender", recommenders),
        "gateway": ("botify.services.gateway", gateways),
    }
    sharing = {"gateway": ["--share-port"]} if gateways > 1 else {}
    return [
        (f"{name}-{number}", [sys.executable, "-m", module, *sharing.get(name, [])])
        for name, (module, count) in counts.items()
        for number in range(1, count + 1)
    ]


State = Literal["running", "paused", "ended", "given up"]
"""A signal pauses a process; one that is given up ended too often to be restarted."""


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process; CPU is in percent of one core since the first reading, memory is resident."""

    name: str
    pid: int
    state: State
    uptime_s: float = 0.0
    cpu_percent: float = 0.0
    rss_mb: float = 0.0
    restarts: int = 0


class ProcessReader:
    """Reads the processes of a stack; the measurement of their CPU starts with its construction."""

    def __init__(self, stack: StackRecord) -> None:
        self._stack = stack
        self._processes = {name: identity.process() for name, identity in stack.processes.items()}
        for process in filter(None, self._processes.values()):
            with suppress(psutil.NoSuchProcess):
                process.cpu_percent()

    def read(self) -> list[ProcessStatus]:
        return [self._read(name, identity) for name, identity in self._stack.processes.items()]

    def _read(self, name: str, identity: Identity) -> ProcessStatus:
        process = self._processes[name] if identity.is_alive() else None
        status = ProcessStatus(name, identity.pid, "ended")
        with suppress(psutil.NoSuchProcess):
            if process is not None:
                status = ProcessStatus(
                    name,
                    identity.pid,
                    "paused" if process.status() == psutil.STATUS_STOPPED else "running",
                    uptime_s=time.time() - process.create_time(),
                    cpu_percent=process.cpu_percent(),
                    rss_mb=process.memory_info().rss / 1e6,
                )
        state: State = "given up" if name in self._stack.given_up else status.state
        return replace(status, state=state, restarts=self._stack.restarts.get(name, 0))


CHECK_S = 0.2


class Supervisor:
    """Starts servers, then programs, and restarts those that end; the caller stops them.

    `changed` is called after a child was restarted or given up, `notify` with one message for each crash. `given_up`
    says how programs ended that stay stopped, `restarted` how often each child was started again.
    """

    def __init__(
        self,
        servers: Sequence[ChildProcess],
        programs: Sequence[ChildProcess] = (),
        *,
        restart_limit: int = LIMIT,
        changed: Callable[[], None] = lambda: None,
        notify: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._servers = list(servers)
        self._children = [*servers, *programs]
        self._restarts = {child.name: Restarts(restart_limit) for child in self._children}
        self._limit = restart_limit
        self._due_s: dict[str, float] = {}
        self._waiting: set[str] = set()
        self._record_changes = changed
        self._is_recorded = True
        self._print = notify
        self._clock = clock
        self.given_up: Mapping[str, str] = {}
        self.restarted: Counter[str] = Counter()

    def start(self) -> None:
        """Start the children that do not run."""
        for child in self._children:
            child.spawn()
        self._changed()

    def watch(self) -> None:
        """Check the children until an exception: `Ctrl-C`, or `ChildDiedError` for a server that ended too often."""
        while True:
            self.check()
            time.sleep(CHECK_S)

    def check(self) -> None:
        """Schedule the restart of children that ended, and start those that are due; raises like `watch`."""
        for child in self._children:
            bound(child.log_path)
            if child.name in self.given_up:
                continue
            if obstacle := child.obstacle():
                self._hold(child, obstacle)
            elif child.name in self._waiting:
                self._waiting.remove(child.name)
                self._notify(f"{child.name} is started again")
                self._start_again(child)
            elif child.running or self._waiting:  # without Kafka others would end too often
                continue
            elif child.name not in self._due_s:
                self._plan(child)
            elif self._clock() >= self._due_s[child.name]:
                self._start_again(child)
        if not self._is_recorded:
            self._changed()

    def _hold(self, child: ChildProcess, obstacle: str) -> None:
        """Stop a child that may not run, or do not start it; a crash while it may not run is not counted."""
        if child.name not in self._waiting:
            self._waiting.add(child.name)
            self._notify(f"{child.name} is stopped: {obstacle}")
        child.stop()

    def _start_again(self, child: ChildProcess) -> None:
        self._due_s.pop(child.name, None)
        child.spawn()
        self.restarted[child.name] += 1
        self._changed()

    def _changed(self) -> None:
        """Have the change recorded, now or, if the disk is full, after a later check."""
        try:
            self._record_changes()
            self._is_recorded = True
        except OSError:
            self._is_recorded = False

    def _notify(self, message: str) -> None:
        with suppress(OSError):  # the output may go to a full disk
            self._print(message)

    def _plan(self, child: ChildProcess) -> None:
        delay_s = self._restarts[child.name].update(self._clock())
        if delay_s is not None:
            self._due_s[child.name] = self._clock() + delay_s
            self._notify(f"{child.death_notice()}\n{child.name} is started again in {delay_s:g} s")
            return
        notice = f"{child.death_notice()}\nIt was restarted {self._limit} times within {WINDOW_S:.0f} s"
        way_out = "Repair the cause shown above"
        if child in self._servers:
            raise ChildDiedError(
                f"{notice}, so everything is stopped; the data is kept. {way_out} and run `botify up` again."
            )
        how = f"it ended with status {child.exit_status}: {tail(child.log_path, lines=1)}"
        self.given_up = {**self.given_up, child.name: how}
        self._changed()
        self._notify(
            f"{notice}, so it stays stopped; everything else keeps running. "
            f"{way_out}, then run `botify down` and `botify up`."
        )
