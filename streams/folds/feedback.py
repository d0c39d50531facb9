"""The fold of the feedback: what each listener said of tracks, in a record of the hash `opinions`.

The newest of a listener and a track counts, of equally new ones the last in the alphabet, and of a listener the newest
`MOST_OPINIONS` are kept, what was withdrawn included. So the state is a function of what was said, whatever its order:
copies change nothing.

The record's layout, little-endian, version 1::

    version u8 | the opinions, oldest first, 13 bytes each: event time in ms i64, track i32, kind u8
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from typing import Any

from botify.schemas.event_time import EventTime
from botify.schemas.events import OPINION_KINDS, Session
from botify.streams.folds.projection import Changes, Scores
from botify.streams.folds.users import UserRecords

OPINIONS = "opinions"
MOST_OPINIONS = 2_000  # of a listener, 26 KB: as many as a put of a listener may name

VERSION = 1
_OPINION = struct.Struct("<qiB")

Said = tuple[int, int, str]  # what a listener said of a track last: event time in ms, track and kind


def read_said(record: bytes | None) -> list[Said]:
    """Return what a record says, the oldest first; raises `ValueError` for an unknown version."""
    if not record:
        return []
    if record[0] != VERSION:
        raise ValueError(f"opinions of version {record[0]}; this code reads version {VERSION}, replay the topic")
    return [(time_ms, track, OPINION_KINDS[kind]) for time_ms, track, kind in _OPINION.iter_unpack(record[1:])]


def merged(said: Iterable[Said], more: Iterable[Said]) -> list[Said]:
    """Return opinions together with more, the oldest first."""
    newest: dict[int, Said] = {}
    for one in (*said, *more):
        newest[one[1]] = max(newest.get(one[1], one), one)
    return sorted(newest.values())[-MOST_OPINIONS:]


def with_said(record: bytes, more: Iterable[Said]) -> bytes:
    """Return a record that has more opinions."""
    said = merged(read_said(record), more)
    packed = [_OPINION.pack(time_ms, track, OPINION_KINDS.index(kind)) for time_ms, track, kind in said]
    return bytes([VERSION]) + b"".join(packed)


class FeedbackFold(UserRecords[bytes]):
    """The opinions of the listeners of one partition of the feedback; a `Fold` of a worker's partition."""

    score_sets: Sequence[str] = ()
    hashes_read_at_claim: Sequence[str] = ()
    duplicates = 0

    def __init__(self, cache_size: int = 100) -> None:
        super().__init__(OPINIONS, bytes, bytes, cache_size)
        self.event_time = EventTime()

    def load_scores(self, collection: str, values: Scores) -> None:
        """Do nothing: there are none."""

    def fold(self, batch: Sequence[tuple[int, Any]]) -> Sequence[tuple[int, Any]]:
        of_users: dict[int, list[Said]] = {}
        for _, said in batch:
            of_users.setdefault(said.user, []).append((said.timestamp_ms, said.track, said.kind))
        for user, more in of_users.items():
            self.put(user, with_said(self.batch[user], more))
        return batch

    def take_changes(self) -> Changes:
        fields = {b"%d" % user: record for user, record in self.take_batch().items()}
        return Changes(hashes={OPINIONS: fields} if fields else {})

    def take_closed_sessions(self) -> list[Session]:
        return []
