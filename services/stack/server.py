"""Child processes of the stack with their logs; a server is a child that is ready once it answers."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from botify.core.process import signals_held
from botify.services.errors import ChildDiedError, StackError
from botify.services.stack.ports import check_free
from botify.services.stack.record import KILL_GRACE_S, STOP_GRACE_S, Identity, Watchdog, signal_group

MAX_BYTES = 10_000_000


def bound(path: Path, max_bytes: int = MAX_BYTES) -> None:
    """Rotate a log that has grown too large to `<name>.1`.

    The file is copied and truncated, not renamed, because the child keeps it open and appends (`O_APPEND`). Lines
    written between copy and truncation are lost.
    """
    if path.exists() and path.stat().st_size > max_bytes:
        with suppress(OSError):  # a full disk: the log cannot grow either
            shutil.copyfile(path, path.with_name(path.name + ".1"))
            os.truncate(path, 0)


def tail(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, or an empty text without a log."""
    with suppress(FileNotFoundError), path.open(encoding="utf-8", errors="replace") as log:
        return "".join(deque(log, maxlen=lines)).rstrip()
    return ""


class ChildProcess:
    """A process that this one starts, watches and stops; its output is appended to `log_path`.

    It runs in its own session, so `Ctrl-C` reaches this process only, which decides the order in which children stop.
    The watchdog stops it if this process is killed; `env` changes this process's environment for it.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log_path: Path,
        watchdog: Watchdog,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._argv = list(argv)
        self._env = dict(env or {})
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self.identity: Identity | None = None

    @property
    def pid(self) -> int:
        """Number of the process; raises `ChildDiedError` before the first start."""
        if self._process is None:
            raise ChildDiedError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process exists (a paused one does)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Exit status of the last process: None while it runs, negative for the signal that killed it."""
        return None if self._process is None else self._process.poll()

    def obstacle(self) -> str | None:
        """Return why the process may not run at the moment, None if it may."""
        return None

    def spawn(self) -> None:
        """Start the process without waiting; does nothing if it runs."""
        if self.running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        bound(self.log_path)
        # an interrupt within `Popen` would leave a process that neither its owner nor the watchdog knows of
        with signals_held(), self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's program
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self._env},
            )
            self.identity = Identity.of(self._process.pid)
            self._watchdog.watch(self.identity)

    def terminate(self) -> None:
        if self.running:
            signal_group(self.pid, signal.SIGTERM)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """Stop the process: SIGTERM, a bounded wait, then SIGKILL."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """Send SIGKILL, and wait for the end."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait(KILL_GRACE_S)

    def pause(self) -> None:
        """Pause the process (SIGSTOP): it keeps its connections and answers nothing."""
        signal_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        signal_group(self.pid, signal.SIGCONT)

    def death_notice(self) -> str:
        """Return how the process ended, with the end of its log."""
        end = tail(self.log_path)
        return f"{self.name} ended with status {self.exit_status}. Its log, {self.log_path}, ends:\n{end}"


def stop_all(children: Sequence[ChildProcess], grace_s: float = STOP_GRACE_S) -> None:
    """Stop children together: all get SIGTERM at once, those that do not end in time SIGKILL."""
    for child in children:
        child.terminate()
    for child in children:
        child.stop(grace_s)


READY_S = 120.0  # a machine whose processors are busy starts Kafka in more than a minute
_POLL_S = 0.02


class Server(ChildProcess, ABC):
    """Kafka or Valkey, which is ready once it answers; the first of its `ports` is for clients."""

    def __init__(
        self, name: str, argv: Sequence[str], *, ports: Sequence[int], log_path: Path, watchdog: Watchdog
    ) -> None:
        super().__init__(name, argv, log_path=log_path, watchdog=watchdog)
        self.ports = tuple(ports)

    @property
    def port(self) -> int:
        return self.ports[0]

    @abstractmethod
    def answers(self) -> bool:
        """Return whether the server answers a client's request now."""

    def start(self) -> None:
        """Start the server with the same port and data, and wait until it answers; raises `StackError`."""
        self.spawn()
        self.wait_until_ready()

    def spawn(self) -> None:
        """Start the server without waiting; raises `PortTakenError` if another process listens on its port."""
        if not self.running:
            for port in self.ports:
                check_free(self.name, port)
            super().spawn()

    def wait_until_ready(self) -> None:
        """Wait until the server answers; raises `ChildDiedError` if it ended, `StackError` at the deadline."""
        give_up = time.monotonic() + READY_S
        while not self.answers():
            if not self.running:
                raise ChildDiedError(self.death_notice())
            if time.monotonic() > give_up:
                raise StackError(f"{self.name} did not answer within {READY_S:.0f} s; its log is {self.log_path}")
            time.sleep(_POLL_S)
