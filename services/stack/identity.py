"""Which process a number meant: a pid is reused, a pid with its time of creation is not."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import psutil

STOP_GRACE_S = 15.0
KILL_GRACE_S = 5.0
_SAME_TIME_S = 1.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Identity:
    """A process for ever.

    Attributes
    ----------
    pid : int
        Number of the process.
    created_s : float
        When it was created, in seconds since the epoch.

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
        """Return the identity of a process that runs now."""
        return cls(pid, psutil.Process(pid).create_time())

    def process(self) -> psutil.Process | None:
        """Return the process, or None if it has ended (a zombie has)."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_s) < _SAME_TIME_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None

    def is_alive(self) -> bool:
        """Return whether the process still runs."""
        return self.process() is not None


def stop_groups(identities: Sequence[Identity], grace_s: float = STOP_GRACE_S) -> None:
    """End process groups by their leaders: SIGTERM, a bounded wait, SIGKILL for those that are left."""
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_GRACE_S)):
        for identity in identities:
            if identity.is_alive():
                signal_group(identity.pid, number)
        wait_until_gone(identities, wait_s)


def wait_until_gone(identities: Sequence[Identity], deadline_s: float) -> bool:
    """Wait until all have ended; return whether they have.

    A zombie has ended: in a container without an init process nobody collects it.
    """
    give_up = time.monotonic() + deadline_s
    while any(identity.is_alive() for identity in identities):
        if time.monotonic() > give_up:
            return False
        time.sleep(_POLL_S)
    return True


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to the group that a child leads; a stopped one is woken, so that it can act on it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
        if number == signal.SIGTERM:
            os.killpg(pid, signal.SIGCONT)
