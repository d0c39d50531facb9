"""What sessions under each policy come to: for how long listeners listened, and how often they left.

A policy is the recommender that answered the session's first request, with the choice it made where it mixes several:
`sticky_artist`, `mix/fism`; where another stood in for the choice (`memory/sticky_norepeat`), it is still the choice.

Sessions that go on count with what was heard of them so far. The mean time of a session is the time of all divided by
the number of those that ended, which is the likeliest mean where listeners leave at a constant rate (Epstein and Sobel,
"Life testing", JASA 1953). A mean of the sessions that ended would know good policies last: theirs are the longest.
Each end takes everything before it down by `KEEP`, so that the latest counts most.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from schemas.events import Listen

POLICY_RESULTS = "policy-results"

HALF_LIFE_SESSIONS = 500
"""In sessions of the policy, in one partition."""
KEEP = 0.5 ** (1 / HALF_LIFE_SESSIONS)

_RESULT = struct.Struct("<dd")


def policy_of(listen: Listen) -> str:
    """Name the policy that led to a listen; the empty text where nobody recommended it."""
    recommender, choice = listen.recommender or "", (listen.policy or "").partition("/")[0]
    return f"{recommender}/{choice}" if choice and choice != recommender else recommender


class PolicyResult:
    """Time and ends of sessions.

    Attributes
    ----------
    time : float
        Sum of fractions, those of open sessions included, the older ones counting less.
    ends : float
        Sessions that ended, the older ones counting less.

    Examples
    --------
    >>> result = PolicyResult()
    >>> result.time += 4.0
    >>> result.end()
    >>> result.time += 6.0  # of a session that goes on
    >>> round(result.mean)
    10
    """

    __slots__ = ("ends", "time")

    def __init__(self, time: float = 0.0, ends: float = 0.0) -> None:
        self.time = time
        self.ends = ends

    @property
    def mean(self) -> float:
        """Time of a session; 0 before the first has ended."""
        return self.time / self.ends if self.ends else 0.0

    def end(self) -> None:
        """Take in that a session has ended; its time is in `time` already."""
        self.time *= KEEP
        self.ends = (self.ends + 1.0) * KEEP

    def to_bytes(self) -> bytes:
        """Return the record: two doubles."""
        return _RESULT.pack(self.time, self.ends)

    @classmethod
    def from_bytes(cls, record: bytes) -> PolicyResult:
        """Read a record.

        Raises
        ------
        ValueError
            The record is of a version that this code does not know.
        """
        if len(record) != _RESULT.size:
            raise ValueError(f"a policy's result of {len(record)} bytes is of another version, replay the topic")
        return cls(*_RESULT.unpack(record))


def merged(results: Sequence[PolicyResult]) -> PolicyResult:
    """Return the results of several partitions as one.

    Examples
    --------
    >>> merged([PolicyResult(8.0, 1.0), PolicyResult(4.0, 3.0)]).mean
    3.0
    """
    return PolicyResult(sum(result.time for result in results), sum(result.ends for result in results))
