"""Projection `sessions`: the open sessions of a partition, and the `Session` events of those that closed.

A session closes when its listener leaves (`end`), when the listener's next session begins (`next`), or when the
partition's event time, the highest timestamp so far, has passed its last listen by the gap (`gap`). No wall clock is
used, so the sessions are a function of the topic.

The record of an open session names its policy: the recommender that answered the session's first request, with the
choice it made if it mixes several (`rerank`, `similar_users/contextual`), also where another one substituted for the
choice.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from botify.schemas.event_time import EventTime
from botify.streams.folds.projection import Fields

OPEN_SESSIONS = "open-sessions"
WATERMARK = b"watermark"  # field of `OPEN_SESSIONS` with the highest timestamp of a folded listen
EVENT_TIME = b"event-time"
"""Field of `OPEN_SESSIONS` with `EventTime.newest_ms`, if a duplicate leads `WATERMARK`; other fields are user ids."""

GAP_MS = 30 * 60 * 1000

_OPEN = struct.Struct("<qqqIdB")


def policy_of(recommender: str | None, policy: str | None) -> str:
    """Name the policy that a recommender's answer names; the empty text if a listen was not recommended."""
    recommender, choice = recommender or "", (policy or "").partition("/")[0]
    return f"{recommender}/{choice}" if choice and choice != recommender else recommender


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
        policy, session_id = self.policy.encode(), self.session_id.encode()
        numbers = self.first_offset, self.started_ms, self.last_ms, self.tracks, self.time, len(policy)
        return _OPEN.pack(*numbers) + policy + session_id

    @classmethod
    def from_bytes(cls, record: bytes) -> OpenSession:
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

    def load_fields(self, values: Fields) -> Iterator[tuple[int, OpenSession]]:
        """Load `WATERMARK` and `EVENT_TIME`, without which event time is the watermark; yield the open sessions."""
        for field, record in values.items():
            if record is None:
                continue
            if field not in (WATERMARK, EVENT_TIME):
                yield int(field), OpenSession.from_bytes(record)
                continue
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
