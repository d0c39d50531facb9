"""Listens as columns: accepted or rejected like `decode_and_validate` does it, without an object a listen."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import mmh3
import numpy as np
from numpy.typing import NDArray

from botify.core.errors import RejectedMessageError
from botify.core.kafka.record_columns import RecordColumns
from botify.schemas.event_time import LEAD_MS, EventTime, Lead
from botify.schemas.events import Listen
from botify.schemas.listen_kernels import Fields, first_leap, first_rows, read_listens
from botify.schemas.track_table import unknown_among
from botify.schemas.validation import Intake, Rejected, decode_and_validate

Ints = NDArray[np.int64]
Cause = tuple[str | None, str | None]  # recommender and policy that led to a listen


@dataclass(frozen=True, slots=True)
class ListenColumns:
    """Accepted listens of one partition, in order; columns of shape (n,)."""

    text: NDArray[np.uint8]  # in which the ids of sessions lie
    offsets: Ints
    users: Ints
    tracks: Ints
    timestamps_ms: Ints
    fractions: NDArray[np.float64]
    events: NDArray[np.uint64]  # hashes of the ids
    sessions: NDArray[np.uint64]  # hashes of the ids
    session_begins: Ints  # where the session's id lies
    session_lengths: Ints
    ended: NDArray[np.bool_]
    causes: Ints  # index into `cause_names`
    cause_names: Sequence[Cause]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def served(self) -> NDArray[np.bool_]:
        """Whether a recommender chose the track, shape (n,)."""
        return np.array([recommender is not None for recommender, _ in self.cause_names], dtype=np.bool_)[self.causes]

    def of(self, rows: NDArray[Any]) -> Self:
        return replace(self, **{name: getattr(self, name)[rows] for name in _COLUMNS})


_COLUMNS = [name for name in ListenColumns.__dataclass_fields__ if name not in ("text", "cause_names")]


def accept_listens(
    records: RecordColumns, intake: Intake, event_time: EventTime
) -> tuple[ListenColumns, list[Rejected]]:
    """Return the accepted listens and the rejected records, both in order; `event_time` advances.

    What is not plainly a good listen goes through `decode_and_validate`: it decides on every rejection.
    """
    raw, count = records.bytes, len(records)
    fields = Fields(*(np.empty((count, *shape), dtype) for dtype, shape in _LAYOUT))
    good = np.empty(count, dtype=np.bool_)
    read_listens(
        raw, records.keys, records.values, np.frombuffer(intake.codec.header_of(Listen), np.uint8), fields, good
    )
    fractions = fields.fractions.view(np.float64)
    with np.errstate(invalid="ignore"):
        good &= (fractions >= 0.0) & (fractions <= 1.0)
    _leave_out(good, records, fields.tracks, intake)
    causes, names = _causes_of(raw, fields, good)
    text, rejected = _through_objects(records, intake, fields, good, causes, names)
    _check_times(records, fields.timestamps_ms, good, rejected, event_time, intake.lead)
    columns = ListenColumns(
        text=np.frombuffer(records.raw + text, np.uint8) if text else raw,
        offsets=records.offsets,
        users=fields.users,
        tracks=fields.tracks,
        timestamps_ms=fields.timestamps_ms,
        fractions=fractions,
        events=fields.events,
        sessions=fields.sessions,
        session_begins=fields.session_begins,
        session_lengths=fields.session_lengths,
        ended=fields.ended,
        causes=causes,
        cause_names=names,
    )
    letters = [Rejected(records[row], reason) for row, reason in sorted(rejected.items())]
    return columns if good.all() else columns.of(good), letters


_LAYOUT: Sequence[tuple[Any, tuple[int, ...]]] = (
    *((np.int64, ()),) * 3,
    *((np.uint64, ()),) * 3,
    *((np.int64, ()),) * 2,
    (np.bool_, ()),
    *((np.int64, (2,)),) * 2,
)


def _leave_out(good: NDArray[np.bool_], records: RecordColumns, tracks: Ints, intake: Intake) -> None:
    """Leave listens of tracks that are not known yet, and earlier dead letters, to the object path."""
    if (known := intake.known_tracks) is not None:
        unknown = unknown_among(tracks[good], known)
        if len(unknown):
            good &= ~np.isin(tracks, unknown)
    if before := intake.rejected_before.get(records.partition):
        dead = [row for row, offset in enumerate(records.offsets.tolist()) if offset in before]
        good[dead] = False


def _causes_of(raw: NDArray[np.uint8], fields: Fields, good: NDArray[np.bool_]) -> tuple[Ints, list[Cause]]:
    firsts = np.empty(len(good), dtype=np.int64)
    first_rows(raw, fields.recommenders, fields.policies, good, firsts)
    rows, causes = np.unique(firsts, return_inverse=True)

    def text(place: Ints) -> str | None:
        begin, length = place.tolist()
        return None if length < 0 else raw[begin : begin + length].tobytes().decode()

    return causes, [
        (text(fields.recommenders[row]), text(fields.policies[row])) if row >= 0 else (None, None) for row in rows
    ]


def _through_objects(
    records: RecordColumns, intake: Intake, fields: Fields, good: NDArray[np.bool_], causes: Ints, names: list[Cause]
) -> tuple[bytes, dict[int, RejectedMessageError]]:
    """Put what objects say into the rows that are not good; return ids of sessions to append, and reasons."""
    rows = np.flatnonzero(~good).tolist()
    rejected: dict[int, RejectedMessageError] = {}
    text = bytearray()
    if not rows:
        return b"", rejected
    known = {cause: number for number, cause in enumerate(names)}
    fractions = fields.fractions.view(np.float64)
    judged = decode_and_validate([records[row] for row in rows], Listen, intake)
    for row, (_, listen) in zip(rows, judged, strict=True):
        if isinstance(listen, RejectedMessageError):
            rejected[row] = listen
            continue
        session = listen.session_id.encode()
        good[row] = True
        fields.users[row], fields.tracks[row] = listen.user, listen.track
        fields.timestamps_ms[row] = listen.timestamp_ms
        fractions[row], fields.ended[row] = listen.fraction, listen.ended_session
        fields.events[row], fields.sessions[row] = _hash(listen.event_id), _hash(listen.session_id)
        fields.session_begins[row], fields.session_lengths[row] = len(records.raw) + len(text), len(session)
        text += session
        cause = listen.recommender, listen.policy
        if (number := known.get(cause)) is None:
            number = known[cause] = len(names)
            names.append(cause)
        causes[row] = number
    return bytes(text), rejected


def _hash(id_: str) -> int:
    return int.from_bytes(mmh3.hash_bytes(id_)[:8], "little")


def _check_times(
    records: RecordColumns,
    timestamps_ms: Ints,
    good: NDArray[np.bool_],
    rejected: dict[int, RejectedMessageError],
    event_time: EventTime,
    lead: Lead,
) -> None:
    """Advance the event time by all good listens in order, and reject those that lead too far."""
    rows = np.flatnonzero(good)
    times_ms, taken_ms = timestamps_ms[rows], records.timestamps[rows]
    at = 0
    lead.begin_run()
    while True:
        bound_ms, declared = LEAD_MS if lead.ms is None else lead.ms, lead.ms is not None
        at, event_time.newest_ms = first_leap(times_ms, taken_ms, at, event_time.newest_ms, bound_ms, declared)
        if at == len(rows):
            return
        row = int(rows[at])
        record = records[row]
        try:
            event_time.advance(int(times_ms[at]), record.timestamp, record.headers, lead, record.value)
        except RejectedMessageError as reason:
            good[row], rejected[row] = False, reason
        at += 1
