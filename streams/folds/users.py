"""Projection `users`: the state of each listener as one compact record, in a bounded cache.

The record's layout, little-endian, version 2::

    version u8 | listens u32 | sessions u32 | poor_streak u32 | session_listens u32 | last_timestamp_ms i64
    session id: length u8, UTF-8 bytes
    tracks of the session: length u16, the first 500 in order, i32 each
    the last 50 listens, oldest first, 28 bytes each (`LISTEN`)

Each listen keeps the 64-bit hash of its event id. The history is the window in which a second event with the same id is
recognised, so deduplication needs no state of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import mmh3
import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Listen
from botify.streams.folds.projection import Changes, Fields

V = TypeVar("V")

HISTORY_LISTENS = 50
SESSION_TRACKS = 500  # later tracks of a session are not kept
POOR_FRACTION = 0.2  # a listen of at most this share was a poor one (Botify's bad streak)

LISTEN = np.dtype([("event", "<u8"), ("timestamp_ms", "<i8"), ("fraction", "<f8"), ("track", "<i4")])
"""One listen of the history. `event` is the hash of the event id."""

VERSION = 2
_HEADER = struct.Struct("<BIIIIqB")
_LENGTH = struct.Struct("<H")
_TRACK = struct.Struct("<i")
_LISTEN = struct.Struct("<8sqdi")
_LISTEN_BYTES = _LISTEN.size
_HISTORY_BYTES = HISTORY_LISTENS * _LISTEN_BYTES
_HEARD_BYTES = SESSION_TRACKS * _TRACK.size


def hash_of(event_id: str) -> bytes:
    """Return what the history keeps of an event's id, 8 bytes."""
    return mmh3.hash_bytes(event_id)[:8]


@dataclass(slots=True)
class UserState:
    """A listener's counts, current session and last listens; only `fold` changes them.

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

    listens: int = 0
    sessions: int = 0
    poor_streak: int = 0  # poor listens in a row in the current session
    session_listens: int = 0
    last_timestamp_ms: int = 0
    session_id: str = ""  # of the last listen
    heard: bytes = b""  # see `session_tracks`
    history: bytes = b""  # see `last_listens`

    def fold(self, listen: Listen) -> bool:
        """Fold a listen; return False, and change nothing, if the history has its event id."""
        event_id, _, track, fraction, timestamp_ms, session_id, *_ = listen
        return self.fold_listen(hash_of(event_id), track, fraction, timestamp_ms, session_id)

    def fold_listen(self, event: bytes, track: int, fraction: float, timestamp_ms: int, session_id: str) -> bool:
        """Fold the fields of a listen, `event` being `hash_of` its id; see `fold`."""
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
        session_id = self.session_id.encode()
        counts = self.listens, self.sessions, self.poor_streak, self.session_listens, self.last_timestamp_ms
        header = _HEADER.pack(VERSION, *counts, len(session_id))
        return header + session_id + _LENGTH.pack(len(self.heard)) + self.heard + self.history

    @classmethod
    def from_bytes(cls, record: bytes) -> UserState:
        """Read a record; raises `ValueError` for an unknown version."""
        version, listens, sessions, poor_streak, in_session, last_ms, id_bytes = _HEADER.unpack_from(record)
        if version != VERSION:
            raise ValueError(f"user state of version {version}; this code reads version {VERSION}, replay the topic")
        session_end = _HEADER.size + id_bytes
        heard_at = session_end + _LENGTH.size
        heard_end = heard_at + _LENGTH.unpack_from(record, session_end)[0]
        session_id = record[_HEADER.size : session_end].decode()
        heard, history = record[heard_at:heard_end], record[heard_end:]
        return cls(listens, sessions, poor_streak, in_session, last_ms, session_id, heard, history)


USERS = "users"
CACHED = 10_000  # records of each kind that are kept at least, of a partition; twice as many of 4 KB take 80 MB


class UserRecords(Generic[V]):
    """Records of the listeners of one partition: the fields of one hash, in a bounded cache; `batch` has the batch's.

    `new` and `read` make a new listener's record, and one from its bytes. Listeners beyond `cache_size` cost a read.
    """

    def __init__(self, collection: str, new: Callable[[], V], read: Callable[[bytes], V], cache_size: int) -> None:
        self._collection, self._new, self._read = collection, new, read
        self._cache: dict[int, V] = {}
        self._cache_size = cache_size
        self.batch: dict[int, V] = {}

    def missing(self, batch: Sequence[tuple[int, Any]]) -> dict[str, list[bytes]]:
        users = {event.user for _, event in batch}
        self.batch |= {user: self._cache[user] for user in users if user in self._cache}
        missing = [b"%d" % user for user in users if user not in self._cache]
        return {self._collection: missing} if missing else {}

    def load_fields(self, values: Fields) -> None:
        for user, value in values.items():
            self.batch[int(user)] = self._cache[int(user)] = self._new() if value is None else self._read(value)

    def put(self, user: int, record: V) -> None:
        self.batch[user] = self._cache[user] = record

    def take_batch(self) -> dict[int, V]:
        """Return the batch's records; a cache twice too large keeps those that came last."""
        batch, self.batch = self.batch, {}
        if len(self._cache) > 2 * self._cache_size:
            for user in list(self._cache)[: -self._cache_size]:
                del self._cache[user]
        return batch

    def erase(self, user: int) -> Changes:
        self._cache[user] = self._new()
        return Changes({self._collection: {b"%d" % user: None}})
