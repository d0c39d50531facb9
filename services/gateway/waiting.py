"""Who waits for Kafka, and what for: the acknowledgement of a listen, and a recommendation."""

from __future__ import annotations

import asyncio
from collections import deque

from schemas.events import Recommendation
from services.gateway.errors import UnavailableError

Outcome = asyncio.Future[Recommendation | None]


class _Open:
    __slots__ = ("acknowledged", "asks", "expires_s", "future", "id_", "reply")

    def __init__(self, id_: str, future: Outcome, expires_s: float, *, asks: bool) -> None:
        self.id_ = id_
        self.future = future
        self.expires_s = expires_s
        self.asks = asks
        self.acknowledged = False
        self.reply: Recommendation | None = None


class Waiting:
    """Listens that were sent, until they are acknowledged and answered or their time is over.

    All wait equally long, so the oldest is the first whose time is over.

    Parameters
    ----------
    wait_s : float

    Attributes
    ----------
    dropped : int
        Second answers, and answers that came too late.

    Examples
    --------
    >>> async def talk() -> int:
    ...     waiting = Waiting(wait_s=1.0)
    ...     future = waiting.open("g-1", asks=True, now_s=0.0)
    ...     waiting.acknowledge("g-1")
    ...     waiting.reply(Recommendation("g-1", 42, 7, "random", {}, 0.1, 0, 1.0, 1000))
    ...     return (await future).track
    >>> asyncio.run(talk())
    7
    """

    def __init__(self, wait_s: float) -> None:
        self._wait_s = wait_s
        self._open: dict[str, _Open] = {}
        self._by_age: deque[_Open] = deque()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._open)

    def open(self, id_: str, *, asks: bool, now_s: float) -> Outcome:
        """Begin to wait.

        Parameters
        ----------
        id_ : str
            Of the listen and of its request.
        asks : bool
            Whether there is a request, so that the acknowledgement is not the end.
        now_s : float
            Monotonic clock.

        Returns
        -------
        Future
            The recommendation; None where none was asked for, or none came in time. `UnavailableError` where the
            listen was not acknowledged.
        """
        one = _Open(id_, asyncio.get_running_loop().create_future(), now_s + self._wait_s, asks=asks)
        self._open[id_] = one
        self._by_age.append(one)
        return one.future

    def acknowledge(self, id_: str) -> None:
        """Take in that a listen is in its topic."""
        if (one := self._open.get(id_)) is not None:
            one.acknowledged = True
            if one.reply is not None or not one.asks:
                self._finish(one)

    def refuse(self, id_: str, why: str) -> None:
        """Take in that a listen did not get into its topic."""
        if (one := self._open.pop(id_, None)) is not None and not one.future.done():
            one.future.set_exception(UnavailableError(f"Kafka did not take the listen: {why}"))

    def reply(self, recommendation: Recommendation) -> None:
        """Take an answer in."""
        one = self._open.get(recommendation.request_id)
        if one is None or one.reply is not None:
            self.dropped += 1
            return
        one.reply = recommendation
        if one.acknowledged:
            self._finish(one)

    def expire(self, now_s: float) -> int:
        """End what has waited long enough; return how many listens were not even acknowledged."""
        unacknowledged = 0
        by_age = self._by_age
        while by_age and (by_age[0].expires_s <= now_s or by_age[0].id_ not in self._open):
            one = by_age.popleft()
            if one.id_ not in self._open:
                continue
            if one.acknowledged:
                self._finish(one)
            else:
                unacknowledged += 1
                self.refuse(one.id_, f"no acknowledgement within {self._wait_s:g} s")
        return unacknowledged

    def _finish(self, one: _Open) -> None:
        del self._open[one.id_]
        if not one.future.done():  # the client may have gone away
            one.future.set_result(one.reply)
