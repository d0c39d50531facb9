"""Throttling: how long a reader gathers, and rests of a thread that works next to one that must answer at once.

The interpreter runs one thread at a time, and they share a processor. So the working thread rests while it works, not
only afterwards: a request waits for a few milliseconds of work, never for all of it.
"""

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

AT_ONCE_S = 0.05  # work that is done without a rest: what takes no longer is served at once
LEAST_S = 0.005  # a shorter rest is put off
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


def lower_priority() -> None:
    """Lower the priority of this thread where there are too few processors for all; on Linux only."""
    with suppress(OSError, AttributeError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)


@contextmanager
def throttled(times: float, most_s: float, stopping: threading.Event) -> Iterator[None]:
    """Let this thread rest `times` its CPU time in the block, `most_s` in all: at each `throttle`, and at the end.

    When `stopping` is set, rests end, and no more follow.
    """
    _pace.times, _pace.most_s, _pace.rested_s, _pace.stopping = times, most_s, 0.0, stopping
    _pace.began_s = time.thread_time()
    try:
        yield
        _pace.rest(time.thread_time() - _pace.began_s, 0.0)
    finally:
        _pace.times = 0.0


def throttle() -> None:
    """Rest, if this thread is throttled; long work calls it every few milliseconds."""
    if _pace.times:
        worked_s = time.thread_time() - _pace.began_s
        if worked_s > AT_ONCE_S:
            _pace.rest(worked_s - AT_ONCE_S, LEAST_S)


def gather_ms(arrived: float, elapsed_ms: float, rate: float, most_ms: float) -> float:
    """Return how long to gather records, at most `most_ms`: ((arrived / elapsed_ms) / rate)².

    A batch costs nearly the same with one record as with ten. So the time grows with the square of what arrives in a
    millisecond: records, or the CPU time that they took. A process with time to spare should be fast, one without it
    cheap.

    Examples
    --------
    >>> [round(gather_ms(*of, rate=1.0, most_ms=5.0), 2) for of in [(1, 20.0), (5, 5.0), (500, 25.0)]]
    [0.0, 1.0, 5.0]
    """
    return min((arrived / max(elapsed_ms, 1.0) / rate) ** 2, most_ms)
