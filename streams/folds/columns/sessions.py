"""Projection `sessions` over columns: the open sessions, a row each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Session
from botify.schemas.listen_columns import ListenColumns
from botify.streams.folds.columns.ids import FEW_ROWS, ID_BYTES, RowsOfIds, at_least, resized, zeros
from botify.streams.folds.columns.kernels import END, GAP, NEXT, Closed, Listens, OpenRows, fold_sessions, push
from botify.streams.folds.columns.packing import pack_numbers, pack_sessions
from botify.streams.folds.projection import Bulk, Changes, Fields, PackedFields
from botify.streams.folds.sessions import GAP_MS, OPEN_SESSIONS, OpenSession, Watermark, policy_of

Ints = NDArray[np.int64]

_REASONS = {END: "end", NEXT: "next", GAP: "gap"}


class SessionColumns:
    """Sessions of one partition; the caller takes those that have `closed`."""

    def __init__(self, partition: int) -> None:
        self._partition = partition
        self._watermark = Watermark()
        self._row_of, self._open = RowsOfIds(), _no_sessions()
        self._heap, self._heap_size = np.zeros((FEW_ROWS, 4), dtype=np.int64), 0
        self._policies = PolicyRows()
        self._touched = False
        self.event_time = self._watermark.event_time
        self.closed: list[Session] = []

    def load_fields(self, values: Fields) -> None:
        for user, session in self._watermark.load_fields(values):
            self._load(user, session)

    def fold(self, columns: ListenColumns, listens: Listens) -> None:
        """Fold the listens; closed sessions are in `closed`, in a fixed order."""
        self._touched |= len(columns) > 0
        self._widen_ids(int(columns.session_lengths.max(initial=0)))
        rows, count = self._rows_of(columns.users), len(columns)
        self._make_heap(self._heap_size + count)
        most = len(self._row_of) + count  # each was open, or begins with a listen
        closed = Closed(
            np.empty((most, 6), dtype=np.int64),
            np.empty(most, dtype=np.float64),
            np.empty((most, self._open.session.shape[1]), dtype=np.uint8),
            np.empty(most, dtype=np.int64),
        )
        self._heap_size, self._watermark.ms, ended = fold_sessions(
            self._open,
            self._heap,
            self._heap_size,
            rows,
            columns.offsets,
            self._policies.rows_of(columns),
            listens,
            self._watermark.ms,
            GAP_MS,
            closed,
        )
        self._add_closed(closed, ended)

    def changes(self) -> Changes:
        if not (times := self._watermark.take_changes(touched=self._touched)):
            return Changes()
        self._touched = False
        new = [part for field, value in times.items() if value is not None for part in (field, value)]
        no_longer = [field for field, value in times.items() if value is None]
        kept, removed = self._take_touched()
        fields = PackedFields(Bulk.of(new).followed_by(kept), Bulk.of(no_longer).followed_by(removed))
        return Changes(hashes={OPEN_SESSIONS: fields})

    def erase(self, user: int) -> Changes:
        """Drop a listener's open session, between two batches: it never closes."""
        number = np.array([user])
        row = self._rows_of(number)
        self._open.opened[row] = False
        self._row_of.remove(number, row)
        return Changes(hashes={OPEN_SESSIONS: {b"%d" % user: None}})

    def _take_touched(self) -> tuple[Bulk, Bulk]:
        table, policies = self._open, self._policies
        rows = np.flatnonzero(table.touched)
        table.touched[rows] = False
        opened = table.opened[rows]
        closed, rows = rows[~opened], rows[opened]
        users = table.user[closed]
        self._row_of.remove(users, closed)
        packed = pack_sessions(table, table.time.view(np.int64), policies.text, policies.ends, rows)
        return Bulk(2 * len(rows), packed.tobytes()), Bulk(len(users), pack_numbers(users).tobytes())

    def _add_closed(self, closed: Closed, count: int) -> None:
        width = closed.session.shape[1]
        ids = closed.session[:count].tobytes()
        columns = (closed.numbers, closed.time, closed.session_length)
        rows = zip(*(column[:count].tolist() for column in columns), strict=True)
        for at, ((user, first_offset, started_ms, ended_ms, tracks, code), time, length) in enumerate(rows):
            id_ = ids[at * width : at * width + length].decode()
            event_id, reason = f"{self._partition}-{first_offset}", _REASONS[code]
            self.closed.append(Session(event_id, id_, user, started_ms, ended_ms, tracks, time, reason))

    def _load(self, user: int, session: OpenSession) -> None:
        id_ = session.session_id.encode()
        self._widen_ids(len(id_))
        row = int(self._rows_of(np.array([user]))[0])
        table = self._open
        table.opened[row], table.first_offset[row] = True, session.first_offset
        table.started_ms[row], table.last_ms[row] = session.started_ms, session.last_ms
        table.tracks[row], table.time[row] = session.tracks, session.time
        table.policy[row] = self._policies.row_of(session.policy) if session.policy else -1
        table.session[row, : len(id_)], table.session_length[row] = np.frombuffer(id_, np.uint8), len(id_)
        self._make_heap(self._heap_size + 1)
        self._heap_size = push(self._heap, self._heap_size, table, row)

    def _rows_of(self, users: Ints) -> Ints:
        rows, _ = self._row_of.of(users)
        if self._row_of.count > len(self._open.user):
            self._open = resized(self._open, at_least(self._row_of.count, len(self._open.user)))
        self._open.user[rows] = users
        return rows

    def _widen_ids(self, length: int) -> None:
        if length > (width := self._open.session.shape[1]):
            self._open = resized(self._open, len(self._open.user), session=at_least(length, width))

    def _make_heap(self, size: int) -> None:
        if size > len(self._heap):
            heap = np.zeros((at_least(size, len(self._heap)), 4), dtype=np.int64)
            heap[: self._heap_size] = self._heap[: self._heap_size]
            self._heap = heap


class PolicyRows:
    """The names of policies, a row each: `text` has them, one after another, and `ends` where each ends, after a 0."""

    def __init__(self) -> None:
        self.text, self.ends = np.zeros(0, dtype=np.uint8), np.zeros(1, dtype=np.int64)
        self._row_of: dict[str, int] = {}

    def row_of(self, policy: str) -> int:
        row = self._row_of.get(policy)
        if row is None:
            row = self._row_of[policy] = len(self._row_of)
            self.text = np.append(self.text, np.frombuffer(policy.encode(), dtype=np.uint8))
            self.ends = np.append(self.ends, len(self.text))
        return row

    def rows_of(self, columns: ListenColumns) -> Ints:
        """Return the row of each listen's policy; -1 if it was not recommended."""
        rows = [self.row_of(policy_of(*cause)) if cause[0] else -1 for cause in columns.cause_names]
        return np.array(rows, dtype=np.int64)[columns.causes]


def _no_sessions() -> OpenRows:
    opened, touched = np.zeros(FEW_ROWS, dtype=np.bool_), np.zeros(FEW_ROWS, dtype=np.bool_)
    session = np.zeros((FEW_ROWS, ID_BYTES), dtype=np.uint8)
    return zeros(OpenRows, FEW_ROWS, opened=opened, touched=touched, time=np.zeros(FEW_ROWS), session=session)
