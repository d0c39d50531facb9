"""The fold of the feedback: what each listener said of tracks, which tracks were on the screen, names and attributes.

All are functions of what was told, whatever its order, and copies change nothing.

- `opinions`: of a listener, a track and a group of kinds that replace each other (`group_of`) the newest counts, of
  equally new ones the last in the alphabet. Of a listener the newest `MOST_OPINIONS` are kept, what was withdrawn
  included. What a kind means is declared where it is read, so a replay does not depend on it.
- `shown`: of a listener and a track the last `IGNORED_AFTER` times, of a listener the newest `MOST_SHOWN` of these. A
  track that is shown twice in a millisecond is a copy. Whether it was ignored is known where listens are read.
- `names`: of a listener the first name counts, of equally old ones the first in the alphabet.
- `attributes`: of a listener the newest description counts, of equally new ones the last by its bytes.

The records' layouts, little-endian::

    opinions 1: version u8 | the opinions, oldest first, 13 bytes each: event time in ms i64, track i32, kind u8
    opinions 2: version u8 | kinds u16, each: length u8, ASCII, in order | as above, 14 bytes each, kind u16
    shown 1:    version u8 | the times, oldest first, 12 bytes each (`IMPRESSION`)
    names 1:    version u8 | event time in ms i64 | the name in UTF-8
    attributes 1: as names 1, in place of the name the attributes as JSON, in the order of the alphabet

Opinions of the built-in kinds alone are written in version 1, with these kinds in the order of the alphabet.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.schemas.event_time import EventTime
from botify.schemas.events import DESCRIBED, NAMED, OPINION_KINDS, SHOWN, Feedback, Session, group_of
from botify.streams.folds.projection import Changes, Fields, Scores
from botify.streams.folds.users import UserRecords

OPINIONS, NAMES, ATTRIBUTES = "opinions", "names", "attributes"
MOST_OPINIONS = 2_000  # of a listener, 28 KB: as many as a put of a listener may name
MOST_SHOWN = 600  # of a listener, 7 KB: the last 200 tracks, if each was shown three times
IGNORED_AFTER = 3  # times on the screen without a listen; once or twice, a listener may not have looked

VERSION = 1  # of impressions, names and attributes
_OPINION, _OPINION_OF_ANY_KIND = struct.Struct("<qiB"), struct.Struct("<qiH")
_COUNT = struct.Struct("<H")
_NAME = struct.Struct("<Bq")
IMPRESSION = np.dtype([("timestamp_ms", "<i8"), ("track", "<i4")])

Record = tuple[int, Feedback]  # offset and event
Said = tuple[int, int, str]  # what a listener said of a track last: event time in ms, track and kind


def read_said(record: bytes | None) -> list[Said]:
    """Return what a record says, the oldest first; raises `ValueError` for an unknown version."""
    if not record:
        return []
    kinds, at, layout = list(OPINION_KINDS), 1, _OPINION
    if record[0] == 2:
        (count,), kinds, at, layout = _COUNT.unpack_from(record, 1), [], 3, _OPINION_OF_ANY_KIND
        for _ in range(count):
            kinds.append(record[at + 1 : at + 1 + record[at]].decode())
            at += 1 + record[at]
    elif record[0] != 1:
        raise ValueError(f"opinions of version {record[0]}; this code reads versions 1 and 2, replay the topic")
    return [(time_ms, track, kinds[kind]) for time_ms, track, kind in layout.iter_unpack(record[at:])]


def merged(said: Iterable[Said], more: Iterable[Said]) -> list[Said]:
    """Return opinions together with more, the oldest first."""
    newest: dict[tuple[int, str], Said] = {}
    for one in (*said, *more):
        key = one[1], group_of(one[2])
        newest[key] = max(newest.get(key, one), one)
    return sorted(newest.values())[-MOST_OPINIONS:]


def with_said(record: bytes, more: Iterable[Said]) -> bytes:
    """Return a record that has more opinions."""
    said = merged(read_said(record), more)
    kinds, head, layout = sorted({kind for _, _, kind in said}), b"\x01", _OPINION
    if set(kinds) <= set(OPINION_KINDS):
        kinds = list(OPINION_KINDS)
    else:
        texts = b"".join(bytes([len(kind)]) + kind.encode() for kind in kinds)
        head, layout = b"\x02" + _COUNT.pack(len(kinds)) + texts, _OPINION_OF_ANY_KIND
    numbers = {kind: number for number, kind in enumerate(kinds)}
    return head + b"".join([layout.pack(time_ms, track, numbers[kind]) for time_ms, track, kind in said])


def read_name(record: bytes | None) -> str | None:
    """Return the name in a record; raises `ValueError` for an unknown version."""
    if not record:
        return None
    if record[0] != VERSION:
        raise ValueError(f"a name of version {record[0]}; this code reads version {VERSION}, replay the topic")
    return record[_NAME.size :].decode()


def read_attributes(record: bytes | None) -> tuple[int, dict[str, str]]:
    """Return the attributes in a record, and when they were told, in ms; raises as `read_name`."""
    text = read_name(record)
    return (0, {}) if not record or text is None else (_NAME.unpack_from(record)[1], json.loads(text))


def read_shown(record: bytes | None) -> NDArray[np.void]:
    """Return when which tracks were shown, shape (n,) of dtype `IMPRESSION`, the oldest first."""
    if record and record[0] != VERSION:
        raise ValueError(f"impressions of version {record[0]}; this code reads version {VERSION}, replay the topic")
    return np.frombuffer(record or b"", dtype=IMPRESSION, offset=1 if record else 0)


def with_shown(record: bytes, more: Iterable[tuple[int, int]]) -> bytes:
    """Return a record that has more impressions: each an event time in ms, and a track."""
    both = np.unique(np.concatenate([read_shown(record), np.array(list(more), dtype=IMPRESSION)]))
    order = np.lexsort((both["timestamp_ms"], both["track"]))
    tracks = both["track"][order]
    later = np.searchsorted(tracks, tracks, side="right") - np.arange(len(tracks))  # times of the track from it on
    kept = np.sort(order[later <= IGNORED_AFTER])[-MOST_SHOWN:]
    return bytes([VERSION]) + both[kept].tobytes()


def shown_often(shown: NDArray[np.void]) -> list[tuple[int, int, int]]:
    """Return the tracks that were shown `IGNORED_AFTER` times, with the first and the last of these times in ms."""
    times: dict[int, list[int]] = {}
    for time_ms, track in shown.tolist():
        times.setdefault(track, []).append(time_ms)
    return [(track, of_track[0], of_track[-1]) for track, of_track in times.items() if len(of_track) >= IGNORED_AFTER]


def _said_in(record: bytes, of_user: Sequence[Feedback]) -> bytes:
    return with_said(record, [(one.timestamp_ms, one.track, one.kind) for one in of_user])


def _shown_in(record: bytes, of_user: Sequence[Feedback]) -> bytes:
    return with_shown(record, [(one.timestamp_ms, track) for one in of_user for track in one.tracks or ()])


def _name_in(record: bytes, of_user: Sequence[Feedback]) -> bytes:
    named = [(one.timestamp_ms, (one.name or "").encode()) for one in of_user]
    return _told(*min(_told_before(record) + named))


def _attributes_in(record: bytes, of_user: Sequence[Feedback]) -> bytes:
    described = [(one.timestamp_ms, one.description()) for one in of_user]
    return _told(*max(_told_before(record) + described))


def _told(at_ms: int, text: bytes) -> bytes:
    return _NAME.pack(VERSION, at_ms) + text


def _told_before(record: bytes) -> list[tuple[int, bytes]]:
    return [(_NAME.unpack_from(record)[1], record[_NAME.size :])] if record else []


_FOLDS = {OPINIONS: _said_in, SHOWN: _shown_in, NAMES: _name_in, ATTRIBUTES: _attributes_in}
"""The record of a listener in each hash, with more feedback."""


def _hash_of(feedback: Feedback) -> str:
    return {SHOWN: SHOWN, NAMED: NAMES, DESCRIBED: ATTRIBUTES}.get(feedback.kind, OPINIONS)


class FeedbackFold:
    """The feedback of the listeners of one partition; a `Fold` of a worker's partition."""

    score_sets: Sequence[str] = ()
    hashes_read_at_claim: Sequence[str] = ()
    duplicates = 0

    def __init__(self, cache_size: int = 100) -> None:
        self._records = {name: UserRecords(name, bytes, bytes, cache_size) for name in _FOLDS}
        self.event_time = EventTime()

    def missing(self, batch: Sequence[Record]) -> dict[str, list[bytes]]:
        found: dict[str, list[bytes]] = {}
        for name, records in self._records.items():
            found |= records.missing([one for one in batch if _hash_of(one[1]) == name])
        return found

    def load_fields(self, collection: str, values: Fields) -> None:
        self._records[collection].load_fields(values)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Do nothing: there are none."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        of_users: dict[tuple[str, int], list[Feedback]] = {}
        for _, one in batch:
            of_users.setdefault((_hash_of(one), one.user), []).append(one)
        for (name, user), more in of_users.items():
            records = self._records[name]
            records.put(user, _FOLDS[name](records.batch[user], more))
        return batch

    def take_changes(self) -> Changes:
        batches = {name: records.take_batch() for name, records in self._records.items()}
        hashes = {name: {b"%d" % user: one for user, one in batch.items()} for name, batch in batches.items() if batch}
        return Changes(hashes=dict(hashes))

    def erase(self, user: int) -> Changes:
        return Changes.merged([records.erase(user) for records in self._records.values()])

    def take_closed_sessions(self) -> list[Session]:
        return []
