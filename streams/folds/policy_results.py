"""What sessions under each policy come to: for how long listeners listened, and how often they left.

A policy is the recommender that answered the session's first request, with the choice it made where it mixes several:
`sticky_artist`, `mix/rerank`; where another stood in for the choice (`memory/sticky_norepeat`), it is still the choice.

Sessions that go on count with what was heard of them so far. The mean time of a session is the time of all divided by
the number of those that ended, which is the likeliest mean where listeners leave at a constant rate (Epstein and Sobel,
"Life testing", JASA 1953). A mean of the sessions that ended would know good policies last: theirs are the longest.

Each end takes down what was before, of all policies that the recommender mixes (as in Raj and Kalyani, "Taming
non-stationary bandits", 2017). So a policy that is hardly used is not judged for ever by what it was before its model
had learned: less and less is known of it, until it is tried again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from schemas.events import Listen
from streams.folds.projection import Fields

POLICY_RESULTS = "policy-results"

HALF_LIFE_SESSIONS = 500
"""Of the recommender's sessions, in one partition."""

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
    >>> result = PolicyResult(time=4.0, ends=1.0)
    >>> result.time += 6.0  # of a session that goes on
    >>> result.mean
    10.0
    """

    __slots__ = ("ends", "time")

    def __init__(self, time: float = 0.0, ends: float = 0.0) -> None:
        self.time = time
        self.ends = ends

    @property
    def mean(self) -> float:
        """Time of a session; 0 before the first has ended."""
        return self.time / self.ends if self.ends else 0.0

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


class PolicyResults:
    """The results of one partition.

    Parameters
    ----------
    half_life_sessions : float
        Of what was before, in sessions of the recommender.

    Examples
    --------
    >>> results = PolicyResults(half_life_sessions=1)
    >>> results.heard("mix/fism", 3.0), results.heard("mix/memory", 2.0)
    (None, None)
    >>> results.end("mix/fism")
    >>> {name.decode(): PolicyResult.from_bytes(record).time for name, record in results.take_changes().items()}
    {'mix/fism': 1.5, 'mix/memory': 1.0}
    """

    def __init__(self, half_life_sessions: float = HALF_LIFE_SESSIONS) -> None:
        self._keep = 0.5 ** (1 / half_life_sessions)
        self._results: dict[str, PolicyResult] = {}
        self._mixed_with: dict[str, list[str]] = {}
        self._changed: set[str] = set()

    def load(self, values: Fields) -> None:
        """Take in what is stored."""
        for name, record in values.items():
            if record:
                self._add(name.decode(), PolicyResult.from_bytes(record))

    def heard(self, policy: str, time: float) -> None:
        """Take in that so much was listened to under a policy."""
        result = self._results.get(policy) or self._add(policy, PolicyResult())
        result.time += time
        self._changed.add(policy)

    def end(self, policy: str) -> None:
        """Take in that a session of a policy has ended; its time was `heard`."""
        self._results[policy].ends += 1.0
        mixed = self._mixed_with[_recommender_of(policy)]
        for one in mixed:
            result = self._results[one]
            result.time *= self._keep
            result.ends *= self._keep
        self._changed.update(mixed)

    def take_changes(self) -> dict[bytes, bytes]:
        """Return the records that have changed since the last call, by policy."""
        changed = {policy.encode(): self._results[policy].to_bytes() for policy in sorted(self._changed)}
        self._changed = set()
        return changed

    def _add(self, policy: str, result: PolicyResult) -> PolicyResult:
        self._results[policy] = result
        self._mixed_with.setdefault(_recommender_of(policy), []).append(policy)
        return result


def _recommender_of(policy: str) -> str:
    return policy.partition("/")[0]


def merged(results: Sequence[PolicyResult]) -> PolicyResult:
    """Return the results of several partitions as one.

    Examples
    --------
    >>> merged([PolicyResult(8.0, 1.0), PolicyResult(4.0, 3.0)]).mean
    3.0
    """
    return PolicyResult(sum(result.time for result in results), sum(result.ends for result in results))
