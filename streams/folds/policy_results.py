"""What sessions under each policy came to: count, mean and variance of their time, the latest counting most.

A policy is the recommender that answered the session's first request, with the choice it made where it mixes several:
`sticky_artist`, `mix/fism`; where another stood in for the choice (`memory/sticky_norepeat`), it is still the choice.
Each session that closes takes the weight of all before it down by `KEEP`, and Welford's recurrence (Technometrics,
1962), in its weighted form (West, CACM 1979), keeps mean and variance.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from schemas.events import Listen

POLICY_RESULTS = "policy-results"

HALF_LIFE_SESSIONS = 500
"""In sessions of the policy, in one partition."""
KEEP = 0.5 ** (1 / HALF_LIFE_SESSIONS)

_RESULT = struct.Struct("<ddd")


def policy_of(listen: Listen) -> str:
    """Name the policy that led to a listen; the empty text where nobody recommended it."""
    recommender, choice = listen.recommender or "", (listen.policy or "").partition("/")[0]
    return f"{recommender}/{choice}" if choice and choice != recommender else recommender


class PolicyResult:
    """Weighted count, mean and variance of the time of sessions.

    Attributes
    ----------
    weight : float
        Sessions, the older ones counting less.
    mean : float
        Sum of fractions.

    Examples
    --------
    >>> result = PolicyResult()
    >>> result.add(2.0), result.add(4.0)
    (None, None)
    >>> round(result.mean, 2), round(result.variance, 2)
    (3.0, 1.0)
    """

    __slots__ = ("_squares", "mean", "weight")

    def __init__(self, weight: float = 0.0, mean: float = 0.0, squares: float = 0.0) -> None:
        self.weight = weight
        self.mean = mean
        self._squares = squares

    @property
    def variance(self) -> float:
        """Of the sessions' time; 0 before the second."""
        return self._squares / self.weight if self.weight else 0.0

    @property
    def standard_error(self) -> float:
        """Of the mean; infinite before the second session."""
        return math.sqrt(self.variance / self.weight) if self.variance else math.inf

    def add(self, time: float) -> None:
        """Take a session in."""
        kept = self.weight * KEEP
        self.weight = kept + 1.0
        step = time - self.mean
        self.mean += step / self.weight
        self._squares = self._squares * KEEP + step * step * kept / self.weight

    def to_bytes(self) -> bytes:
        """Return the record: three doubles."""
        return _RESULT.pack(self.weight, self.mean, self._squares)

    @classmethod
    def from_bytes(cls, record: bytes) -> PolicyResult:
        """Read a record."""
        return cls(*_RESULT.unpack(record))


def merged(results: Sequence[PolicyResult]) -> PolicyResult:
    """Return the results of several partitions as one; at least one is given.

    Examples
    --------
    >>> merged([PolicyResult(1.0, 2.0), PolicyResult(1.0, 4.0)]).variance
    1.0
    """
    weight = sum(result.weight for result in results)
    mean = sum(result.weight * result.mean for result in results) / weight
    squares = sum(result._squares + result.weight * (result.mean - mean) ** 2 for result in results)
    return PolicyResult(weight, mean, squares)
