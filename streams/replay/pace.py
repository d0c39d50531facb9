"""How fast a replay may go: so many records a second, or so many times as fast as the records were produced."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence

from streams.offline.partition_log import LogRecord
from streams.replay.errors import ReplayError

SLICE_S = 0.02
"""Records that are due within this time go together."""


class Pacer:
    """Holds records back until they are due. Shared by all partitions.

    Parameters
    ----------
    rate : float, optional
        Records a second.
    speed : float, optional
        Seconds of record time per second of wall time.
    clock, sleep : callables
        For tests.

    Examples
    --------
    >>> pacer = Pacer(rate=100.0)
    >>> [len(part) for part in pacer.parts([LogRecord("t", 0, n, 0, None, None, ()) for n in range(5)])]
    [2, 2, 1]
    """

    def __init__(
        self,
        rate: float | None = None,
        speed: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rate = rate
        self._speed = speed
        self._clock = clock
        self._sleep = sleep
        self._started: float | None = None
        self._first_ms = 0
        self._sent = 0

    @property
    def by_time(self) -> bool:
        """Whether the records' own times say when they are due."""
        return self._speed is not None

    def parts(self, batch: Sequence[LogRecord]) -> Iterator[Sequence[LogRecord]]:
        """Split a batch into parts that may go together."""
        if self._rate is None and self._speed is None:
            yield batch
            return
        most = len(batch) if self._rate is None else max(1, int(self._rate * SLICE_S))
        span_ms = float("inf") if self._speed is None else self._speed * SLICE_S * 1000
        first = 0
        for at, record in enumerate(batch):
            if at - first >= most or record.timestamp - batch[first].timestamp > span_ms:
                yield batch[first:at]
                first = at
        yield batch[first:]

    async def wait(self, part: Sequence[LogRecord]) -> None:
        """Return when the part is due."""
        now = self._clock()
        if self._started is None:
            self._started, self._first_ms = now, part[0].timestamp
        due = self._started
        if self._rate is not None:
            due = max(due, self._started + self._sent / self._rate)
        if self._speed is not None:
            due = max(due, self._started + (part[0].timestamp - self._first_ms) / 1000 / self._speed)
        self._sent += len(part)
        if due > now:
            await self._sleep(due - now)


def parse_speed(text: str) -> float | None:
    """Read `10x` or `max` (None).

    Raises
    ------
    ReplayError
        It is neither.

    Examples
    --------
    >>> parse_speed("2.5x")
    2.5
    """
    if text == "max":
        return None
    try:
        speed = float(text.removesuffix("x"))
    except ValueError:
        speed = 0.0
    if not text.endswith("x") or not 0 < speed < float("inf"):
        raise ReplayError(f"speed {text!r} is neither max nor a multiple such as 10x")
    return speed
