"""What is known of one listener, as one compact record.

The record's layout, little-endian, version 2::

    version u8 | listens u32 | sessions u32 | poor_streak u32 | session_listens u32 | last_timestamp_ms i64
    session id: length u8, UTF-8 bytes
    tracks of the session: length u16, the first 500 in order, i32 each
    the last 50 listens, oldest first, 28 bytes each (`LISTEN`)

The 64-bit hash of a listen's event id is kept with it. It makes the history the window in which a second event
with the same id is recognised, so deduplication needs no state of its own and survives whatever the history does.
"""

from __future__ import annotations

import struct

import mmh3
import numpy as np
from numpy.typing import NDArray

from schemas.events import Listen

HISTORY_LISTENS = 50
SESSION_TRACKS = 500
"""Of a session longer than that, later tracks are not kept."""
POOR_FRACTION = 0.2
"""A listen of at most this share was a poor one (Botify's bad streak)."""

LISTEN = np.dtype([("event", "<u8"), ("timestamp_ms", "<i8"), ("fraction", "<f8"), ("track", "<i4")])
"""One listen of the history. `event` is the hash of the event id."""

_VERSION = 2
_HEADER = struct.Struct("<BIIIIqB")
_LENGTH = struct.Struct("<H")
_TRACK = struct.Struct("<i")
_LISTEN = struct.Struct("<8sqdi")
_LISTEN_BYTES = _LISTEN.size
_HISTORY_BYTES = HISTORY_LISTENS * _LISTEN_BYTES
_HEARD_BYTES = SESSION_TRACKS * _TRACK.size


class UserState:
    """A listener's counts, current session and last listens. `fold` is the only way in which it changes.

    Attributes
    ----------
    listens, sessions : int
        Counts over the listener's life.
    poor_streak : int
        Poor listens in a row in the current session.
    session_id : str
        The session of the last listen; empty before the first.
    session_listens : int
        Listens of that session.
    last_timestamp_ms : int
        Event time of the last listen.
    heard : bytes
        The tracks of that session, from its first on; see `session_tracks`.
    history : bytes
        The last listens as `LISTEN` records; see `last_listens`.

    Examples
    --------
    >>> state = UserState()
    >>> listen = Listen("a:0", 42, 7, 0.8, 1000, "a", 0, False, None, {}, None, None)
    >>> state.fold(listen), state.fold(listen)  # the second is a duplicate
    (True, False)
    >>> state.listens, state.last_listens()["track"].tolist()
    (1, [7])
    >>> UserState.from_bytes(state.to_bytes()) == state
    True
    """

    __slots__ = (
        "heard",
        "history",
        "last_timestamp_ms",
        "listens",
        "poor_streak",
        "session_id",
        "session_listens",
        "sessions",
    )

    def __init__(self) -> None:
        self.listens = 0
        self.sessions = 0
        self.poor_streak = 0
        self.session_id = ""
        self.session_listens = 0
        self.last_timestamp_ms = 0
        self.heard = b""
        self.history = b""

    def fold(self, listen: Listen) -> bool:
        """Take one listen in; return False, and change nothing, where the history already has its event id."""
        event_id, _, track, fraction, timestamp_ms, session_id, *_ = listen
        event = mmh3.hash_bytes(event_id)[:8]
        history = self.history
        found = history.find(event)
        while found >= 0:
            if found % _LISTEN_BYTES == 0:
                return False
            found = history.find(event, found + 1)
        history += _LISTEN.pack(event, timestamp_ms, fraction, track)
        self.history = history if len(history) <= _HISTORY_BYTES else history[_LISTEN_BYTES:]
        self.listens += 1
        self.last_timestamp_ms = timestamp_ms
        if session_id != self.session_id:
            self.session_id = session_id
            self.session_listens = 0
            self.sessions += 1
            self.poor_streak = 0
            self.heard = b""
        self.session_listens += 1
        if len(self.heard) < _HEARD_BYTES:
            self.heard += _TRACK.pack(track)
        self.poor_streak = self.poor_streak + 1 if fraction <= POOR_FRACTION else 0
        return True

    def last_listens(self) -> NDArray[np.void]:
        """Return the history, shape (n,) of dtype `LISTEN`, oldest first, read-only."""
        return np.frombuffer(self.history, dtype=LISTEN)

    def session_tracks(self) -> NDArray[np.int32]:
        """Return the tracks of the current session in order, shape (n,), read-only."""
        return np.frombuffer(self.heard, dtype="<i4")

    def to_bytes(self) -> bytes:
        """Return the record; equal states give equal bytes."""
        session_id = self.session_id.encode()
        header = _HEADER.pack(
            _VERSION,
            self.listens,
            self.sessions,
            self.poor_streak,
            self.session_listens,
            self.last_timestamp_ms,
            len(session_id),
        )
        return header + session_id + _LENGTH.pack(len(self.heard)) + self.heard + self.history

    @classmethod
    def from_bytes(cls, record: bytes) -> UserState:
        """Read a record.

        Raises
        ------
        ValueError
            The record is of a version that this code does not know.
        """
        state = cls.__new__(cls)
        version, *counts, last_timestamp_ms, id_bytes = _HEADER.unpack_from(record)
        if version != _VERSION:
            raise ValueError(f"user state of version {version}; this code reads version {_VERSION}, replay the topic")
        state.listens, state.sessions, state.poor_streak, state.session_listens = counts
        state.last_timestamp_ms = last_timestamp_ms
        session_end = _HEADER.size + id_bytes
        state.session_id = record[_HEADER.size : session_end].decode()
        heard_at = session_end + _LENGTH.size
        heard_end = heard_at + _LENGTH.unpack_from(record, session_end)[0]
        state.heard = record[heard_at:heard_end]
        state.history = record[heard_end:]
        return state

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UserState) and self.to_bytes() == other.to_bytes()

    __hash__ = None  # type: ignore[assignment]  # it changes
