"""Whether a process is alive and ready."""

from __future__ import annotations

import time
from collections.abc import Callable

Probe = Callable[[], str | None]
"""Returns what is wrong, in words; None where all is well."""

SILENCE_S = 60.0
"""Longer than any single wait of ours: a flush gives up after 30 s, a Redis command after three tries of 10 s."""


class Heartbeat:
    """Beaten by the loop that does the work, so a loop that hangs is noticed.

    Parameters
    ----------
    silence_s : float
        How long it may be silent.
    clock : callable
        Monotonic seconds.

    Examples
    --------
    >>> now = [0.0]
    >>> heartbeat = Heartbeat(silence_s=60.0, clock=lambda: now[0])
    >>> heartbeat.probe() is None
    True
    >>> now[0] = 61.0
    >>> heartbeat.probe()
    'the loop has not turned for 61 s'
    >>> heartbeat.beat()
    >>> heartbeat.probe() is None
    True
    """

    def __init__(self, silence_s: float = SILENCE_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._silence_s = silence_s
        self._clock = clock
        self._beaten_s = clock()

    def beat(self) -> None:
        """Say that the loop turns."""
        self._beaten_s = self._clock()

    def probe(self) -> str | None:
        """Say what is wrong; a `Probe`."""
        silent_s = self._clock() - self._beaten_s
        return f"the loop has not turned for {silent_s:.0f} s" if silent_s > self._silence_s else None


def always_well() -> None:
    """Find nothing wrong; a `Probe`."""
