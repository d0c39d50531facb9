"""Our programs as forks of a process that has imported everything, so that one that is killed is soon back."""

import ast
import importlib
import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import psutil

from botify.core.settings import Settings

_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOADED = tuple(
    f"botify.{one}" for one in ("streams.worker", "streams.learner", "services.recommender", "services.gateway")
)
_CONTEXT.set_forkserver_preload([*(f"{module}.__main__" for module in _PRELOADED), "tests.chaos.programs"])

CLAIM = r"claimed partitions at offsets (\{{.+\}}).*\.{topic}"
"""In a worker's log: of one of the two topics that it folds."""
SESSION_TIMEOUT_S = 2
STOP_S = 30.0


class Program:
    def __init__(self, settings: Settings, module: str, name: str, env: Mapping[str, str] | None = None) -> None:
        self.log = settings.home / f"{name}.log"
        self._process: ForkServerProcess = _CONTEXT.Process(
            target=_run, args=(module, settings.to_env() | dict(env or {}), self.log), name=name
        )
        self._process.start()

    @property
    def running(self) -> bool:
        return self._process.is_alive()

    @property
    def stopped(self) -> bool:
        return psutil.Process(self._process.pid).status() == psutil.STATUS_STOPPED

    @property
    def exit_status(self) -> int | None:
        """None while it runs, negative for the signal that killed it."""
        return self._process.exitcode

    def said(self, text: str) -> bool:
        return self.log.exists() and text in self.log.read_text(errors="replace")

    @property
    def claimed(self) -> bool:
        """Whether a worker has partitions of both topics: each is claimed by an app of its own, at its own time."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        return all(re.search(CLAIM.format(topic=topic), text) for topic in ("listens", "feedback"))

    def claimed_at(self) -> dict[int, int]:
        """Return the offsets at which a worker went on with its first partitions of listens."""
        told = re.search(CLAIM.format(topic="listens"), self.log.read_text(errors="replace"))
        assert told, f"{self.log} tells of no claim"
        offsets: dict[int, int] = ast.literal_eval(told[1])
        return offsets

    def counter(self, name: str) -> int:
        """Return a counter that a worker tells when it stops: the sum of its two apps."""
        told = re.findall(rf"stopped: .*\b{name}=(\d+)", self.log.read_text(errors="replace"))
        assert told, f"{self.log} tells no counters"
        return sum(map(int, told))

    def kill(self) -> None:
        self._process.kill()
        self._process.join(STOP_S)

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> int | None:
        if self.running:
            self.resume()
            self._process.terminate()
            self._process.join(STOP_S)
        if self.running:
            self.kill()
        return self.exit_status

    def _signal(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)


def _run(module: str, env: Mapping[str, str], log: Path) -> None:
    os.environ.update(env)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.argv = [module]
    importlib.import_module(f"{module}.__main__").main()
