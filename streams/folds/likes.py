"""Projection `likes`: what each listener liked in earlier sessions and this one, beyond the last 50 listens.

A like includes the session's first track, its *seed track*: the listener chose it without a recommendation, so it best
describes the session. A session leaves at most `SESSION_LIKES`, so that one long session does not displace all others;
the last `LIKES` are kept.

The record's layout, little-endian, version 1::

    version u8 | likes of the session u8 | the session's seed track i32 | its id: length u8, UTF-8 bytes
    the likes, oldest first, 12 bytes each (`LIKE`)
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Listen

LIKES_OF_USERS = "likes"

LIKES = 128
SESSION_LIKES = 16
LIKED_FRACTION = 0.5  # the least share of a liked track

LIKE = np.dtype([("track", "<i4"), ("seed_track", "<i4"), ("fraction", "<f4")])

VERSION = 1
_HEADER = struct.Struct("<BBiB")
_LIKE = struct.Struct("<iif")


@dataclass(slots=True, eq=False)
class Likes:
    """One listener's likes; only `fold` changes them.

    Of the last listen's session: its id (empty before the first), seed track (-1), and number of likes, `of_session`.

    Examples
    --------
    >>> likes = Likes()
    >>> for position, fraction in enumerate([1.0, 0.9, 0.1]):
    ...     heard = Listen(f"e{position}", 42, 7 + position, fraction, 0, "s", position, False, None, {}, None, None)
    ...     _ = likes.fold(heard)
    >>> likes.all()["track"].tolist(), likes.all()["seed_track"].tolist()
    ([7, 8], [7, 7])
    """

    session_id: str = ""
    seed_track: int = -1
    of_session: int = 0
    packed: bytes = b""

    def fold(self, listen: Listen) -> bool:
        """Fold a listen; return whether anything has changed."""
        changed = listen.session_id != self.session_id
        if changed:
            self.session_id, self.seed_track, self.of_session = listen.session_id, listen.track, 0
        if listen.fraction < LIKED_FRACTION or self.of_session >= SESSION_LIKES:
            return changed
        self.of_session += 1
        self.packed += _LIKE.pack(listen.track, self.seed_track, listen.fraction)
        self.packed = self.packed[-LIKES * _LIKE.size :]
        return True

    def all(self) -> NDArray[np.void]:
        """Return the likes, shape (n,) of dtype `LIKE`, oldest first, read-only; a track may come twice."""
        return np.frombuffer(self.packed, dtype=LIKE)

    def to_bytes(self) -> bytes:
        session_id = self.session_id.encode()
        return _HEADER.pack(VERSION, self.of_session, self.seed_track, len(session_id)) + session_id + self.packed

    @classmethod
    def from_bytes(cls, record: bytes) -> Likes:
        """Read a record; raises `ValueError` for an unknown version."""
        version, of_session, seed_track, id_bytes = _HEADER.unpack_from(record)
        if version != VERSION:
            raise ValueError(f"likes of version {version}; this code reads version {VERSION}, replay the topic")
        session_end = _HEADER.size + id_bytes
        return cls(record[_HEADER.size : session_end].decode(), seed_track, of_session, record[session_end:])
