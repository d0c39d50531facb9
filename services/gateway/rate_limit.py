"""How often a client may come: a token bucket each."""

from __future__ import annotations

from collections import OrderedDict

CLIENTS = 10_000
BURST_S = 1.0
"""How long a client that was silent may save up."""


class RateLimit:
    """So many requests a second of each client.

    Parameters
    ----------
    rate_per_s : float
    clients : int
        How many are remembered; one that is forgotten starts anew.

    Examples
    --------
    >>> limit = RateLimit(rate_per_s=2)
    >>> [limit.wait_s("10.0.0.7", now_s=0.0) for _ in range(3)]
    [0.0, 0.0, 0.5]
    >>> limit.wait_s("10.0.0.7", now_s=0.5)
    0.0
    """

    def __init__(self, rate_per_s: float, clients: int = CLIENTS) -> None:
        self._rate_per_s = rate_per_s
        self._most = max(1.0, rate_per_s * BURST_S)
        self._clients = clients
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()  # client -> requests left, as of when

    def wait_s(self, client: str, now_s: float) -> float:
        """Count a request; return 0 where it may pass, and otherwise how long until one may.

        Parameters
        ----------
        client : str
        now_s : float
            Monotonic clock.
        """
        left, since_s = self._left.pop(client, (self._most, now_s))
        left = min(self._most, left + (now_s - since_s) * self._rate_per_s)
        passes = left >= 1.0
        self._left[client] = (left - passes, now_s)
        if len(self._left) > self._clients:
            self._left.popitem(last=False)
        return 0.0 if passes else (1.0 - left) / self._rate_per_s
