"""Rests of a thread that works beside one that must answer at once.

The interpreter runs one of them at a time, and they share a processor. So the working one rests while it works, not
only afterwards: who is answered waits for a few milliseconds of work, never for all of it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AT_ONCE_S = 0.05
"""Work that is done without a rest: what takes no longer is served at once."""
LEAST_S = 0.005
"""A shorter rest is put off."""
NICE = 10


class _Pace(threading.local):
    """What this thread owes; `times` is 0 where it need not rest."""

    times = 0.0
    most_s = 0.0
    rested_s = 0.0
    began_s = 0.0
    stopping = threading.Event()

    def rest(self, worked_s: float, least_s: float) -> None:
        owed_s = min(self.times * worked_s, self.most_s) - self.rested_s
        if owed_s >= least_s:
            began_s = time.monotonic()
            self.stopping.wait(owed_s)
            self.rested_s += time.monotonic() - began_s


_pace = _Pace()


def step_back() -> None:
    """Let other threads run before this one where the processors do not suffice for all; elsewhere than on Linux, not.

    There a thread has a priority of its own, and may lower it.
    """
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


@contextmanager
def resting(times: float, most_s: float, stopping: threading.Event) -> Iterator[None]:
    """Let this thread rest so many times as long as it works in the block: at each `breathe`, and at the end.

    Parameters
    ----------
    times : float
        Multiple of the thread's CPU time.
    most_s : float
        Longest rest, in all.
    stopping : Event
        When it is set, rests end, and no more follow.

    Examples
    --------
    >>> with resting(4.0, most_s=0.01, stopping=threading.Event()):
    ...     breathe()
    """
    _pace.times, _pace.most_s, _pace.rested_s, _pace.stopping = times, most_s, 0.0, stopping
    _pace.began_s = time.thread_time()
    try:
        yield
        _pace.rest(time.thread_time() - _pace.began_s, 0.0)
    finally:
        _pace.times = 0.0


def breathe() -> None:
    """Rest, if this thread is to; long work calls it every few milliseconds."""
    if _pace.times:
        worked_s = time.thread_time() - _pace.began_s
        if worked_s > AT_ONCE_S:
            _pace.rest(worked_s - AT_ONCE_S, LEAST_S)
