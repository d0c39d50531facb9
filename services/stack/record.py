"""Identities of processes, their watchdog, the files of a stack with its processes and its end, and its disk."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import psutil

from botify.core.files import write_secret
from botify.core.settings import STACK_FILE
from botify.services.errors import StackError

STOP_GRACE_S = 15.0
KILL_GRACE_S = 5.0
_SAME_TIME_S = 1.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """A process: pids are reused, a pid with its time of creation is not.

    On Linux the time is in seconds since boot, which a step of the wall clock does not change; elsewhere since the
    epoch.

    Examples
    --------
    >>> import os
    >>> me = Identity.of(os.getpid())
    >>> me.is_alive()
    True
    >>> Identity(me.pid, me.created_s - 3600).is_alive()
    False
    """

    pid: int
    created_s: float

    @classmethod
    def of(cls, pid: int) -> Self:
        return cls(pid, _created_s(pid))

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it has ended (a zombie has ended)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(_created_s(self.pid) - self.created_s) < _SAME_TIME_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        return self.process() is not None


def _created_s(pid: int) -> float:
    if not Path("/proc/self/stat").exists():
        return psutil.Process(pid).create_time()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError as error:
        raise psutil.NoSuchProcess(pid) from error
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")  # `starttime` of proc(5), the 22nd field


def stop_groups(identities: Sequence[Identity]) -> None:
    """Stop the process groups of leaders: SIGTERM, a bounded wait, then SIGKILL."""
    for number, wait_s in ((signal.SIGTERM, STOP_GRACE_S), (signal.SIGKILL, KILL_GRACE_S)):
        for identity in identities:
            if identity.is_alive():
                signal_group(identity.pid, number)
        wait_until_gone(identities, wait_s)


def wait_until_gone(identities: Sequence[Identity], deadline_s: float) -> bool:
    """Wait until all have ended; a zombie has, too. Return whether they have."""
    give_up = time.monotonic() + deadline_s
    while any(identity.is_alive() for identity in identities):
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the group of a leader; SIGTERM also resumes a paused group, so that it can end."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
        if number == signal.SIGTERM:
            os.killpg(pid, signal.SIGCONT)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Write a file by `write_secret`: the address of Redis may contain its password."""
    write_secret(path, json.dumps(value, indent=2) + "\n")


ENDED_FILE = "stack-ended.json"


@dataclass(frozen=True, slots=True)
class StackRecord:
    """The stack of a data directory: its owner, which starts and stops the processes, and whether all servers answered.

    `settings` has the addresses under their names in `Settings`, which reads this file; `given_up` how a program ended
    that stays stopped; `restarts` how often a process was started again.
    """

    owner: Identity
    ready: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)
    processes: Mapping[str, Identity] = field(default_factory=dict)
    given_up: Mapping[str, str] = field(default_factory=dict)
    restarts: Mapping[str, int] = field(default_factory=dict)

    def write(self, home: Path) -> None:
        write_json(home / STACK_FILE, asdict(self))

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """Return the record, or None without a file; raises `StackError` if the file is damaged."""
        path = home / STACK_FILE
        try:
            written = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                owner=Identity(**written["owner"]),
                ready=bool(written["ready"]),
                settings=written["settings"],
                processes={name: Identity(**process) for name, process in written["processes"].items()},
                given_up=written["given_up"],
                restarts={name: int(count) for name, count in written.get("restarts", {}).items()},
            )
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StackError(f"{path} cannot be read ({error!r}); remove it and run `botify up`") from error

    def survivors(self) -> dict[str, Identity]:
        """Return the processes that are alive; a pid that was reused does not count."""
        return {name: process for name, process in self.processes.items() if process.is_alive()}


@dataclass(frozen=True, slots=True)
class StackEnd:
    """The error that ended the last stack of a data directory, with its time in ISO 8601; `botify status` shows it."""

    at: str
    why: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), str(error) or repr(error))

    def write(self, home: Path) -> None:
        write_json(home / ENDED_FILE, asdict(self))

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """Return the end, or None if the last stack was stopped by a user; a damaged file counts as none."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            return cls(**json.loads((home / ENDED_FILE).read_text(encoding="utf-8")))
        return None

    @staticmethod
    def forget(home: Path) -> None:
        (home / ENDED_FILE).unlink(missing_ok=True)


# A broker that starts on a full disk takes its topics for empty.
STOP_BYTES = 256 << 20  # with less free space Kafka is stopped in order, before a write of its own fails
START_BYTES = 512 << 20
"""With less it is not started; the distance to `STOP_BYTES` keeps it from stopping again at once."""


def shortage(home: Path, needed: int = START_BYTES) -> str | None:
    """Return why Kafka may not run in a data directory; None if it may, or if the free space is not known."""
    try:
        free = shutil.disk_usage(home).free
    except OSError:
        return None
    if free >= needed:
        return None
    return (
        f"the disk of {home} has {free >> 20:,} MB free: Kafka stops below {STOP_BYTES >> 20} MB and starts with "
        f"{START_BYTES >> 20} MB, because one that starts on a full disk loses its topics. Free some space; a running "
        "stack then continues by itself, and its data is kept"
    )


def shortage_of_stack(home: Path) -> list[str]:
    """Return why the embedded Kafka of a running stack is stopped or will soon be; nothing where there is none."""
    with contextlib.suppress(StackError):  # a damaged file is reported by those who need it
        record = StackRecord.read(home)
        if record is not None and "kafka" in record.processes and (found := shortage(home)):
            return [found]
    return []


CLOSE_WAIT_S = 30.0


class Watchdog:
    """A small process that stops the children of a stack whose owner was killed; it starts with the first child.

    The owner writes the identity of each child to a pipe. When the owner ends for any reason, the kernel closes the
    pipe, and the watchdog stops the children that are left. Linux's `PR_SET_PDEATHSIG` would need no process, but it
    fires when the *thread* that started the child ends, and other systems do not have it.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def watch(self, child: Identity) -> None:
        """Have a child stopped if this process ends before it does so itself."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "botify.services.stack.record"],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        with contextlib.suppress(BrokenPipeError):  # a killed watchdog must not prevent a child from starting
            print(child.pid, child.created_s, file=self._process.stdin, flush=True)

    def close(self) -> None:
        """Close the pipe, so that the watchdog stops the children that still run, and wait for its end."""
        if self._process is not None:
            self._process.communicate(timeout=CLOSE_WAIT_S)
            self._process = None


def main() -> None:
    """Read identities until the owner ends, then stop the children that are left."""
    children: dict[int, Identity] = {}
    for line in sys.stdin:
        pid, created_s = line.split()
        children[int(pid)] = Identity(int(pid), float(created_s))
    stop_groups(list(children.values()))


if __name__ == "__main__":
    main()
