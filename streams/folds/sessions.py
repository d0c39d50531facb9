"""Projection `sessions`: the open sessions of a partition, and the `Session` events of those that closed.

A session closes when its listener leaves (`end`), when the listener's next session begins (`next`), or when the
partition's event time, the highest timestamp so far, has passed its last listen by the gap (`gap`). No wall clock is
used, so the sessions are a function of the topic.

With them goes what sessions under each policy came to. A policy is the recommender that answered the session's first
request, with the choice it made if it mixes several: `sticky_artist`, `mix/rerank`; if another one substituted for the
choice (`memory/sticky_norepeat`), it is still the choice.

Open sessions count with what was heard of them so far. The mean time of a session is the time of all divided by the
number of those that ended: the maximum-likelihood mean if listeners leave at a constant rate (Epstein and Sobel, "Life
testing", JASA 1953). A mean of ended sessions alone would learn of good policies last: their sessions are the longest.

Each end discounts the past of all policies that the recommender mixes (Raj and Kalyani, "Taming non-stationary
bandits", 2017). So a policy that is rarely used is not judged for ever by what it was before its model had learned: its
evidence fades until it is tried again.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from botify.schemas.event_time import EventTime
from botify.schemas.events import Listen, Session
from botify.streams.folds.projection import Changes, Fields, Record, Scores

OPEN_SESSIONS = "open-sessions"
WATERMARK = b"watermark"
"""Field of `OPEN_SESSIONS` with the highest timestamp of a folded listen."""
EVENT_TIME = b"event-time"
"""Field of `OPEN_SESSIONS` with `EventTime.newest_ms`, if a duplicate leads `WATERMARK`; other fields are user ids."""

GAP_MS = 30 * 60 * 1000

_OPEN = struct.Struct("<qqqIdB")


POLICY_RESULTS = "policy-results"

HALF_LIFE_SESSIONS = 500
"""Of the recommender's sessions, in one partition."""

_RESULT = struct.Struct("<dd")


def policy_of(listen: Listen) -> str:
    """Name the policy that led to a listen; the empty text if it was not recommended."""
    return policy_name(listen.recommender, listen.policy)


def policy_name(recommender: str | None, policy: str | None) -> str:
    """Return the name of the policy that a recommender's answer names.

    Examples
    --------
    >>> policy_name("mix", "fism/popular"), policy_name("toppop", None)
    ('mix/fism', 'toppop')
    """
    recommender, choice = recommender or "", (policy or "").partition("/")[0]
    return f"{recommender}/{choice}" if choice and choice != recommender else recommender


@dataclass(slots=True, eq=False)
class PolicyResult:
    """Time and ends of sessions, the older ones counting less; open sessions count in `time` (a sum of fractions).

    Examples
    --------
    >>> result = PolicyResult(time=4.0, ends=1.0)
    >>> result.time += 6.0  # of an open session
    >>> result.mean
    10.0
    """

    time: float = 0.0
    ends: float = 0.0

    @property
    def mean(self) -> float:
        """Time of a session; 0 before the first has ended."""
        return self.time / self.ends if self.ends else 0.0

    def to_bytes(self) -> bytes:
        """Return the record: two doubles."""
        return _RESULT.pack(self.time, self.ends)

    @classmethod
    def from_bytes(cls, record: bytes) -> PolicyResult:
        """Read a record; raises `ValueError` for an unknown version."""
        if len(record) != _RESULT.size:
            raise ValueError(f"a policy's result of {len(record)} bytes is of another version, replay the topic")
        return cls(*_RESULT.unpack(record))


class PolicyResults:
    """The results of one partition; each end discounts them by a half-life in sessions of the recommender.

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
        """Load stored results."""
        for name, record in values.items():
            if record:
                self._add(name.decode(), PolicyResult.from_bytes(record))

    def heard(self, policy: str, time: float) -> None:
        """Add listening time under a policy."""
        result = self._results.get(policy) or self._add(policy, PolicyResult())
        result.time += time
        self._changed.add(policy)

    def end(self, policy: str) -> None:
        """Count the end of a session of a policy; its time was `heard`."""
        self._results[policy].ends += 1.0
        mixed = self._mixed_with[recommender_of(policy)]
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
        self._mixed_with.setdefault(recommender_of(policy), []).append(policy)
        return result


def recommender_of(policy: str) -> str:
    """Return the recommender of a policy's name."""
    return policy.partition("/")[0]


def merged(results: Sequence[PolicyResult]) -> PolicyResult:
    """Return the results of several partitions as one."""
    return PolicyResult(sum(result.time for result in results), sum(result.ends for result in results))


@dataclass(slots=True, eq=False)
class OpenSession:
    """An open session."""

    session_id: str
    first_offset: int
    started_ms: int
    last_ms: int
    tracks: int = 0
    time: float = 0.0
    policy: str = ""

    def to_bytes(self) -> bytes:
        """Return the record: five numbers, the length of the policy's name, the name, then the session's id."""
        numbers = self.first_offset, self.started_ms, self.last_ms, self.tracks, self.time
        return self.record_of(*numbers, self.policy.encode(), self.session_id.encode())

    @staticmethod
    def record_of(
        first_offset: int, started_ms: int, last_ms: int, tracks: int, time: float, policy: bytes, session_id: bytes
    ) -> bytes:
        """Return the record of a session in parts."""
        return _OPEN.pack(first_offset, started_ms, last_ms, tracks, time, len(policy)) + policy + session_id

    @classmethod
    def from_bytes(cls, record: bytes) -> OpenSession:
        """Read a record."""
        first_offset, started_ms, last_ms, tracks, time, policy_bytes = _OPEN.unpack_from(record)
        id_at = _OPEN.size + policy_bytes
        policy = record[_OPEN.size : id_at].decode()
        return cls(record[id_at:].decode(), first_offset, started_ms, last_ms, tracks, time, policy)


class Watermark:
    """The highest timestamp of a folded listen, in ms, and the event time: they differ after a duplicate that leads."""

    def __init__(self) -> None:
        self.ms = 0
        self.event_time = EventTime()
        self._stored_event_ms = 0
        self._event_time_is_stored = False

    def load(self, field: bytes, record: bytes) -> None:
        """Load one of the fields `WATERMARK` and `EVENT_TIME`; without the second, event time is the watermark."""
        if field == WATERMARK:
            self.ms = int(record)
        else:
            self._event_time_is_stored = True
        self._stored_event_ms = self.event_time.newest_ms = max(self._stored_event_ms, int(record))

    def take_changes(self, *, touched: bool) -> dict[bytes, bytes | None]:
        """Return the fields to write; none if no session was touched and the event time is stored."""
        event_ms = max(self.event_time.newest_ms, self.ms)
        if not touched and event_ms == self._stored_event_ms:
            return {}
        fields: dict[bytes, bytes | None] = {WATERMARK: b"%d" % self.ms}
        ahead = event_ms > self.ms
        if ahead or self._event_time_is_stored:
            fields[EVENT_TIME] = b"%d" % event_ms if ahead else None
        self._stored_event_ms, self._event_time_is_stored = event_ms, ahead
        return fields


class Sessions:
    """Sessions of one partition. All open ones are in memory: as many as listeners were active within the gap.

    The caller removes sessions from `closed`. `event_time` says which listens are accepted; it is kept here because it
    is stored with the open sessions.

    Examples
    --------
    >>> sessions = Sessions(partition=0)
    >>> listen = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, True, None, {}, None, None)
    >>> _ = sessions.fold([(11, listen)])
    >>> [(s.event_id, s.tracks, s.closed_by) for s in sessions.closed]
    [('0-11', 1, 'end')]
    """

    hashes: Sequence[str] = (OPEN_SESSIONS, POLICY_RESULTS)
    score_sets: Sequence[str] = ()

    def __init__(
        self, partition: int, gap_ms: int = GAP_MS, policy_half_life_sessions: float = HALF_LIFE_SESSIONS
    ) -> None:
        self._partition = partition
        self._gap_ms = gap_ms
        self._watermark = Watermark()
        self._open: dict[int, OpenSession] = {}
        # (last_ms when pushed, user, first_offset): one entry an open session, brought up to date when it comes up
        self._by_age: list[tuple[int, int, int]] = []
        self._touched: set[int] = set()
        self._results = PolicyResults(policy_half_life_sessions)
        self.event_time = self._watermark.event_time
        self.closed: list[Session] = []

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Nothing: `load_fields` is given the whole collection when the partition is claimed."""
        return {}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load open sessions and the watermark, or the policies' results."""
        if collection == POLICY_RESULTS:
            self._results.load(values)
            return
        for field, record in values.items():
            if record is None:
                continue
            if field in (WATERMARK, EVENT_TIME):
                self._watermark.load(field, record)
            else:
                self._start(int(field), OpenSession.from_bytes(record))

    def load_scores(self, collection: str, values: Scores) -> None:
        """Do nothing: there are none."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Fold the batch; closed sessions are in `closed`, in a fixed order."""
        for offset, listen in batch:
            self._watermark.ms = max(self._watermark.ms, listen.timestamp_ms)
            self._close_expired()
            self._take(offset, listen)
        return batch

    def changes(self) -> Changes:
        """Return the changed sessions (None for closed ones) and the watermark."""
        if not (fields := self._watermark.take_changes(touched=bool(self._touched))):
            return Changes()
        for user in self._touched:
            session = self._open.get(user)
            fields[b"%d" % user] = session.to_bytes() if session else None
        self._touched = set()
        results = self._results.take_changes()
        return Changes(hashes={OPEN_SESSIONS: fields, **({POLICY_RESULTS: results} if results else {})})

    def erase(self, user: int) -> Changes:
        """Drop a listener's open session, between two batches: it never closes, and its policy keeps its time."""
        self._open.pop(user, None)
        return Changes(hashes={OPEN_SESSIONS: {b"%d" % user: None}})

    def _take(self, offset: int, listen: Listen) -> None:
        user = listen.user
        self._touched.add(user)
        session = self._open.get(user)
        if session is None or session.session_id != listen.session_id:
            if session is not None:
                self._close(user, session, "next")
            session = OpenSession(listen.session_id, offset, listen.timestamp_ms, listen.timestamp_ms)
            self._start(user, session)
        session.tracks += 1
        session.time += listen.fraction
        if session.policy:
            self._results.heard(session.policy, listen.fraction)
        elif listen.recommender:
            session.policy = policy_of(listen)
            self._results.heard(session.policy, session.time)
        if listen.timestamp_ms > session.last_ms:
            session.last_ms = listen.timestamp_ms
        if listen.ended_session:
            self._close(user, session, "end")

    def _start(self, user: int, session: OpenSession) -> None:
        self._open[user] = session
        heapq.heappush(self._by_age, (session.last_ms, user, session.first_offset))

    def _close_expired(self) -> None:
        by_age = self._by_age
        while by_age and by_age[0][0] + self._gap_ms < self._watermark.ms:
            last_ms, user, first_offset = heapq.heappop(by_age)
            session = self._open.get(user)
            if session is None or session.first_offset != first_offset:
                continue  # closed in the meantime
            if session.last_ms > last_ms:
                heapq.heappush(by_age, (session.last_ms, user, first_offset))
            else:
                self._close(user, session, "gap")
                self._touched.add(user)

    def _close(self, user: int, session: OpenSession, closed_by: str) -> None:
        del self._open[user]
        if session.policy:
            self._results.end(session.policy)
        self.closed.append(
            Session(
                event_id=f"{self._partition}-{session.first_offset}",
                session_id=session.session_id,
                user=user,
                started_ms=session.started_ms,
                ended_ms=session.last_ms,
                tracks=session.tracks,
                time=session.time,
                closed_by=closed_by,
            )
        )
