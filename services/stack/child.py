"""One child process: its own session, its own log, a bounded end."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from services.stack import logs
from services.stack.errors import ChildDiedError
from services.stack.identity import KILL_GRACE_S, STOP_GRACE_S, Identity, signal_group
from services.stack.watchdog import Watchdog


class ChildProcess:
    """A process that is started, watched and ended by this one.

    It runs in a session of its own, so `Ctrl-C` reaches only us and we decide on the order of the ends.

    Parameters
    ----------
    name : str
        What messages and the status call it.
    argv : Sequence[str]
        Program and arguments.
    log_path : Path
        Its standard output and error, appended.
    watchdog : Watchdog
        Who ends the child when we are killed.
    env : Mapping[str, str] | None
        Changes to our environment.
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
        """Number of the process.

        Raises
        ------
        ChildDiedError
            It has not been started.
        """
        if self._process is None:
            raise ChildDiedError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is there (a paused one is)."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """How the last process ended: None while it runs, negative for the signal that killed it."""
        return None if self._process is None else self._process.poll()

    def spawn(self) -> None:
        """Start the process without waiting for anything; nothing happens if it runs."""
        if self.running:
            return
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        logs.bound(self.log_path)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - the caller's own program
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
        """Ask the process to end, without waiting."""
        if self.running:
            signal_group(self.pid, signal.SIGTERM)

    def stop(self, grace_s: float = STOP_GRACE_S) -> None:
        """End the process: ask, wait, then kill."""
        if self._process is None:
            return
        self.terminate()
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End the process with SIGKILL and wait until it is gone."""
        if self._process is not None:
            signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait(KILL_GRACE_S)

    def pause(self) -> None:
        """Freeze the process (SIGSTOP): it keeps its connections and answers nothing."""
        signal_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen process go on."""
        signal_group(self.pid, signal.SIGCONT)

    def death_notice(self) -> str:
        """Say how the process ended, with the end of its log."""
        end = logs.tail(self.log_path)
        return f"{self.name} ended with status {self.exit_status}. Its log, {self.log_path}, ends:\n{end}"


def stop_all(children: Sequence[ChildProcess], grace_s: float = STOP_GRACE_S) -> None:
    """Stop children together: all are asked at once, those that do not end in time are killed."""
    for child in children:
        child.terminate()
    for child in children:
        child.stop(grace_s)
