"""The fold of the feedback: what each listener said of tracks, in the hash `opinions`, and names in `names`.

The newest of a listener and a track counts, of equally new ones the last in the alphabet, and of a listener the newest
`MOST_OPINIONS` are kept, what was withdrawn included. So the state is a function of what was said, whatever its order:
copies change nothing.

The record's layout, little-endian, version 1::

    version u8 | the opinions, oldest first, 13 bytes each: event time in ms i64, track i32, kind u8

A listener's name is the first that it got, of equally old ones the first in the alphabet::

    version u8 | event time in ms i64 | the name in UTF-8
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping, Sequence

from botify.schemas.event_time import EventTime
from botify.schemas.events import NAMED, OPINION_KINDS, Feedback, Session
from botify.streams.folds.projection import Changes, Fields, Scores
from botify.streams.folds.users import UserRecords

OPINIONS, NAMES = "opinions", "names"
MOST_OPINIONS = 2_000  # of a listener, 26 KB: as many as a put of a listener may name

VERSION = 1
_OPINION = struct.Struct("<qiB")
_NAME = struct.Struct("<Bq")

Record = tuple[int, Feedback]  # offset and event
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


def read_name(record: bytes | None) -> str | None:
    """Return the name in a record; raises `ValueError` for an unknown version."""
    if not record:
        return None
    if record[0] != VERSION:
        raise ValueError(f"a name of version {record[0]}; this code reads version {VERSION}, replay the topic")
    return record[_NAME.size :].decode()


def _with_name(record: bytes, one: Feedback) -> bytes:
    named = one.timestamp_ms, (one.name or "").encode()
    before = (_NAME.unpack_from(record)[1], record[_NAME.size :]) if record else named
    at_ms, name = min(before, named)
    return _NAME.pack(VERSION, at_ms) + name


class FeedbackFold:
    """What the listeners of one partition of the feedback said and are called; a `Fold` of a worker's partition."""

    score_sets: Sequence[str] = ()
    hashes_read_at_claim: Sequence[str] = ()
    duplicates = 0

    def __init__(self, cache_size: int = 100) -> None:
        self._records = {name: UserRecords(name, bytes, bytes, cache_size) for name in (OPINIONS, NAMES)}
        self.event_time = EventTime()

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        missing: dict[str, list[bytes]] = {}
        for collection, records in self._records.items():
            missing |= records.missing([one for one in batch if _collection_of(one[1]) == collection])
        return missing

    def load_fields(self, collection: str, values: Fields) -> None:
        self._records[collection].load_fields(collection, values)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Do nothing: there are none."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        opinions, names = self._records[OPINIONS], self._records[NAMES]
        of_users: dict[int, list[Said]] = {}
        for _, said in batch:
            if said.kind == NAMED:
                names.put(said.user, _with_name(names.batch[said.user], said))
            else:
                of_users.setdefault(said.user, []).append((said.timestamp_ms, said.track, said.kind))
        for user, more in of_users.items():
            opinions.put(user, with_said(opinions.batch[user], more))
        return batch

    def take_changes(self) -> Changes:
        taken = {collection: records.take_batch() for collection, records in self._records.items()}
        return Changes(
            {
                collection: {b"%d" % user: record for user, record in batch.items()}
                for collection, batch in taken.items()
                if batch
            }
        )

    def erase(self, user: int) -> Changes:
        return Changes.merged(records.erase(user) for records in self._records.values())

    def take_closed_sessions(self) -> list[Session]:
        return []


def _collection_of(said: Feedback) -> str:
    return NAMES if said.kind == NAMED else OPINIONS
