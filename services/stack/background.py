"""Starts a command that runs a stack in the background, and waits until that stack is ready."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from services.stack import logs
from services.stack.errors import ChildDiedError, StackError
from services.stack.identity import STOP_GRACE_S
from services.stack.record import StackRecord

READY_S = 300.0  # the first start downloads Kafka
_POLL_S = 0.1


def start_in_background(home: Path, command: Sequence[str], ready_s: float = READY_S) -> StackRecord:
    """Run a command as a process of its own that outlives this one, and return once its stack is ready.

    Parameters
    ----------
    home : Path
        Data directory of the stack; the command's output goes to `logs/stack.log` in it.
    command : Sequence[str]
        Program and arguments.
    ready_s : float
        How long it may take.

    Raises
    ------
    ChildDiedError
        It ended instead; the message is the end of its output, which says why.
    StackError
        It did not get ready in time; it is stopped, as it is by any exception here (`Ctrl-C` is one).
    """
    log_path = home / "logs" / "stack.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the caller's own command
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        return _wait_until_ready(home, process, log_path, ready_s)
    except BaseException:
        process.terminate()
        process.wait(3 * STOP_GRACE_S)
        raise


def _wait_until_ready(home: Path, process: subprocess.Popen[bytes], log_path: Path, ready_s: float) -> StackRecord:
    give_up = time.monotonic() + ready_s
    while time.monotonic() < give_up:
        if process.poll() is not None:
            said = logs.tail(log_path) or f"status {process.returncode}, without a word"
            raise ChildDiedError(f"the stack ended before it was ready:\n{said}")
        record = StackRecord.read(home)
        if record is not None and record.ready and record.owner.pid == process.pid:
            return record
        time.sleep(_POLL_S)
    raise StackError(f"the stack was not ready within {ready_s:.0f} s; its log is {log_path}")
