"""When a crashed process is started again, and when that is given up. Pure: the clock is the caller's."""

from __future__ import annotations

from collections import deque

WINDOW_S = 60.0
LIMIT = 5
FIRST_DELAY_S = 0.5
MAX_DELAY_S = 10.0


class Restarts:
    """The restarts of one process: each of a burst waits twice as long, and a minute has a bounded number.

    Parameters
    ----------
    limit : int
        Restarts within a minute before giving up.

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
        """Note a crash; return the seconds to wait before the restart, or None to give up."""
        while self._times_s and now_s - self._times_s[0] >= WINDOW_S:
            self._times_s.popleft()
        if len(self._times_s) >= self._limit:
            return None
        delay_s: float = min(FIRST_DELAY_S * 2.0 ** len(self._times_s), MAX_DELAY_S)
        self._times_s.append(now_s)
        return delay_s
