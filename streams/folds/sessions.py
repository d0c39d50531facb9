"""Projection `sessions`: the open sessions of a partition, and the `Session` events of those that closed.

A session closes when its listener leaves (`end`), when another session of the listener begins (`next`), or when the
partition's event time, the highest timestamp met so far, has passed its last listen by the gap (`gap`). No wall
clock takes part, so the sessions are a function of the topic.

With them goes what their policies reached: see `policy_results`.
"""

from __future__ import annotations

import heapq
import struct
from collections.abc import Mapping, Sequence

from schemas.event_time import EventTime
from schemas.events import Listen, Session
from streams.folds.policy_results import HALF_LIFE_SESSIONS, POLICY_RESULTS, PolicyResults, policy_of
from streams.folds.projection import Changes, Fields, Record, Scores

OPEN_SESSIONS = "open-sessions"
WATERMARK = b"watermark"
"""Field of `OPEN_SESSIONS` that holds the highest timestamp among the listens that were folded."""
EVENT_TIME = b"event-time"
"""Field of `OPEN_SESSIONS` that holds `EventTime.newest_ms`, where a duplicate has led `WATERMARK`.

All fields but these two are user ids.
"""

GAP_MS = 30 * 60 * 1000

_OPEN = struct.Struct("<qqqIdB")


class OpenSession:
    """A session that goes on."""

    __slots__ = ("first_offset", "last_ms", "policy", "session_id", "started_ms", "time", "tracks")

    def __init__(
        self,
        session_id: str,
        first_offset: int,
        started_ms: int,
        last_ms: int,
        tracks: int = 0,
        time: float = 0.0,
        policy: str = "",
    ) -> None:
        self.session_id = session_id
        self.first_offset = first_offset
        self.started_ms = started_ms
        self.last_ms = last_ms
        self.tracks = tracks
        self.time = time
        self.policy = policy

    def to_bytes(self) -> bytes:
        """Return the record: five numbers, the length of the policy's name, the name, then the session's id."""
        policy = self.policy.encode()
        numbers = self.first_offset, self.started_ms, self.last_ms, self.tracks, self.time, len(policy)
        return _OPEN.pack(*numbers) + policy + self.session_id.encode()

    @classmethod
    def from_bytes(cls, record: bytes) -> OpenSession:
        """Read a record."""
        first_offset, started_ms, last_ms, tracks, time, policy_bytes = _OPEN.unpack_from(record)
        id_at = _OPEN.size + policy_bytes
        policy = record[_OPEN.size : id_at].decode()
        return cls(record[id_at:].decode(), first_offset, started_ms, last_ms, tracks, time, policy)


class Sessions:
    """Sessions of one partition. Open ones are all in memory: as many as listeners were active within the gap.

    Attributes
    ----------
    closed : list of Session
        Closed since the shell last took them away.
    event_time : EventTime
        Which listens the intake accepts. It is kept here because it is stored with the open sessions.

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
        self._watermark_ms = 0
        self._open: dict[int, OpenSession] = {}
        # (last_ms when pushed, user, first_offset): one entry an open session, brought up to date when it comes up
        self._by_age: list[tuple[int, int, int]] = []
        self._touched: set[int] = set()
        self._results = PolicyResults(policy_half_life_sessions)
        self._stored_event_ms = 0
        self._event_time_is_stored = False
        self.event_time = EventTime()
        self.closed: list[Session] = []

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Nothing: `load_fields` is given the whole collection when the partition is claimed."""
        return {}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Take in open sessions and the watermark, or the policies' results."""
        if collection == POLICY_RESULTS:
            self._results.load(values)
            return
        for field, record in values.items():
            if record is None:
                continue
            if field in (WATERMARK, EVENT_TIME):
                event_ms = int(record)
                if field == WATERMARK:
                    self._watermark_ms = event_ms
                else:
                    self._event_time_is_stored = True
                # without a field of its own, event time is the watermark
                self._stored_event_ms = self.event_time.newest_ms = max(self._stored_event_ms, event_ms)
            else:
                self._start(int(field), OpenSession.from_bytes(record))

    def load_scores(self, collection: str, values: Scores) -> None:
        """There are none."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Fold the batch; what it closes is in `closed`, in a fixed order."""
        for offset, listen in batch:
            if listen.timestamp_ms > self._watermark_ms:
                self._watermark_ms = listen.timestamp_ms
            if self._by_age and self._by_age[0][0] + self._gap_ms < self._watermark_ms:
                self._close_expired()
            self._take(offset, listen)
        return batch

    def changes(self) -> Changes:
        """Return the sessions that were touched (None for those that closed) and the watermark."""
        event_ms = max(self.event_time.newest_ms, self._watermark_ms)
        if not self._touched and event_ms == self._stored_event_ms:
            return Changes()
        fields: dict[bytes, bytes | None] = {WATERMARK: b"%d" % self._watermark_ms}
        ahead = event_ms > self._watermark_ms
        if ahead or self._event_time_is_stored:
            fields[EVENT_TIME] = b"%d" % event_ms if ahead else None
        self._stored_event_ms, self._event_time_is_stored = event_ms, ahead
        for user in self._touched:
            session = self._open.get(user)
            fields[b"%d" % user] = session.to_bytes() if session else None
        self._touched = set()
        results = self._results.take_changes()
        return Changes(hashes={OPEN_SESSIONS: fields, **({POLICY_RESULTS: results} if results else {})})

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
        while by_age and by_age[0][0] + self._gap_ms < self._watermark_ms:
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
