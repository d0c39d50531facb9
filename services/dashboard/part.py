"""One part of the snapshot: made when its server is there, read when it is due, kept when it cannot be read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from confluent_kafka import KafkaException
from redis.exceptions import RedisError

from core.errors import BotifyError

log = logging.getLogger(__name__)

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")


class Reader(Protocol[T_co]):
    """Reads one part."""

    def read(self) -> T_co:
        """Return the part as it is now; raises what Kafka's and Redis's clients raise."""

    def close(self) -> None:
        """Let go of the server."""


class Part(Generic[T]):
    """A reader that survives its server.

    Parameters
    ----------
    name : str
        What the problem is called when it cannot be read.
    make : callable
        Connects. Called again after a failure, so nothing half broken is kept.
    every_s : float
        How old the part may become.

    Attributes
    ----------
    value : T | None
        As last read.
    problem : str
        Why the last try failed; empty where it did not.

    Examples
    --------
    >>> class Clock:
    ...     def read(self): return "noon"
    ...     def close(self): pass
    >>> part = Part("time", Clock)
    >>> part.refresh(now_s=0.0), part.problem
    ('noon', '')
    """

    def __init__(self, name: str, make: Callable[[], Reader[T]], every_s: float = 0.0) -> None:
        self._name = name
        self._make = make
        self._every_s = every_s
        self._reader: Reader[T] | None = None
        self._read_s = float("-inf")
        self.value: T | None = None
        self.problem = ""

    def refresh(self, now_s: float) -> T | None:
        """Read the part if it is due, and return it as it is known."""
        if now_s - self._read_s < self._every_s:
            return self.value
        self._read_s = now_s
        try:
            if self._reader is None:
                self._reader = self._make()
            self.value = self._reader.read()
            self.problem = ""
        except (BotifyError, KafkaException, RedisError, TimeoutError, OSError) as error:
            self._fail(error)
        return self.value

    def close(self) -> None:
        """Let go of the server."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _fail(self, error: Exception) -> None:
        problem = f"{self._name}: {error}"
        if problem != self.problem:
            log.warning("the dashboard cannot read %s", problem)
        self.problem = problem
        self.close()
