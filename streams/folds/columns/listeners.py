"""Projections `users` and `likes` over columns: the states of `UserState` and `Likes`, a row a listener.

Histories and likes are kept as rings, so nothing moves; records are put together when they are written. Rows are
bounded: when there are too many, those that were used last are kept, and the others are read again when needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from botify.streams.folds.columns.ids import FEW_ROWS, ID_BYTES, RowsOfIds, at_least, first_of_each, resized, zeros
from botify.streams.folds.columns.kernels import LikeRows, Listens, Users, fold_likes, fold_users
from botify.streams.folds.columns.packing import pack_likes, pack_users
from botify.streams.folds.likes import LIKE, LIKES, LIKES_OF_USERS, Likes
from botify.streams.folds.projection import Bulk, Changes, Fields, PackedFields
from botify.streams.folds.users import HISTORY_LISTENS, LISTEN, SESSION_TRACKS, USERS, UserState

Ints = NDArray[np.int64]

MOST_ROWS, ROW_BYTES = 60_000, 3_200
"""Half of the rows are kept. Long sessions widen rows to 5,600 bytes; then there are fewer of them."""

_HEARD = 16


class Listeners:
    """States and likes of the listeners of one partition."""

    def __init__(self, *, with_likes: bool, most_rows: int = MOST_ROWS) -> None:
        self.hashes = (USERS, LIKES_OF_USERS) if with_likes else (USERS,)
        self._most_rows = most_rows
        self._row_of = RowsOfIds()
        self._numbers = np.zeros(FEW_ROWS, dtype=np.int64)  # the listener of each row
        self._met = np.zeros(FEW_ROWS, dtype=np.bool_)
        self._used = np.zeros(FEW_ROWS, dtype=np.int64)  # in which batch a row was used last
        self._run = 0
        session, heard = np.zeros((FEW_ROWS, ID_BYTES), dtype=np.uint8), np.zeros((FEW_ROWS, _HEARD), dtype=np.int32)
        history = np.zeros((FEW_ROWS, HISTORY_LISTENS), dtype=LISTEN)
        self._users = zeros(Users, FEW_ROWS, session=session, heard=heard, history=history)
        likes = np.zeros((FEW_ROWS, LIKES), dtype=LIKE)
        self._likes = zeros(LikeRows, FEW_ROWS, session=session.copy(), likes=likes)
        self._batch_users = self._batch_rows = self._changed_likes = np.zeros(0, dtype=np.int64)
        self._rows = self._batch_rows  # of each listen

    def missing(self, users: Ints) -> dict[str, list[bytes]]:
        """Give each listener of a batch a row, and return the fields to read for new rows."""
        if self._are_too_many(len(users)) and self._are_too_many(len(np.unique(users))):
            self._forget()
        rows, new = self._row_of.of(users)
        self._make_room(self._row_of.count)
        self._numbers[rows[new]] = users[new]
        firsts = first_of_each(rows, self._met)
        self._rows, self._batch_rows, self._batch_users = rows, rows[firsts], users[firsts]
        self._run += 1
        self._used[self._batch_rows] = self._run
        fields = [b"%d" % user for user in users[new].tolist()]
        return dict.fromkeys(self.hashes, fields) if fields else {}

    def load_fields(self, collection: str, values: Fields) -> None:
        load = self._load_user if collection == USERS else self._load_likes
        rows, _ = self._row_of.of(np.array([int(field) for field in values], dtype=np.int64))
        for row, record in zip(rows.tolist(), values.values(), strict=True):
            if record is not None:
                load(row, record)

    def fold(self, listens: Listens) -> NDArray[np.bool_]:
        """Fold the batch whose users `missing` was given; return which listens are no duplicates."""
        kept = np.zeros(len(self._rows), dtype=np.bool_)
        self._widen_ids(int(listens.session_lengths.max(initial=0)))
        at = 0
        while (at := fold_users(self._users, self._rows, listens, kept, at)) < len(kept):
            width = min(2 * self._users.heard.shape[1], SESSION_TRACKS)
            self._users = resized(self._users, len(self._used), heard=width)
        return kept

    def fold_likes(self, listens: Listens, kept: NDArray[np.bool_]) -> None:
        changed = np.zeros(len(self._used), dtype=np.bool_)
        fold_likes(self._likes, self._rows[kept], listens, changed)
        self._changed_likes = np.flatnonzero(changed[self._batch_rows])

    def changes(self) -> Changes:
        numbers, likes = self._batch_users, self._changed_likes
        hashes: dict[str, Fields] = {}
        if len(numbers):
            table, rows = self._users, self._batch_rows
            packed = pack_users(table, _bytes_of(table.heard), _bytes_of(table.history), numbers, rows)
            hashes[USERS] = PackedFields(Bulk(2 * len(numbers), packed.tobytes()))
        if len(likes):
            liked, rows = self._likes, self._batch_rows[likes]
            packed = pack_likes(liked, _bytes_of(liked.likes), numbers[likes], rows)
            hashes[LIKES_OF_USERS] = PackedFields(Bulk(2 * len(likes), packed.tobytes()))
        self._batch_users, self._changed_likes = numbers[:0], likes[:0]
        return Changes(hashes=hashes)

    def erase(self, user: int) -> Changes:
        """Forget a listener, between two batches; the row stays, as that of a new listener."""
        (row,), _ = self._row_of.of(np.array([user]))
        self._make_room(self._row_of.count)
        self._numbers[row] = user
        for column in (*self._users, *self._likes):
            column[row] = np.zeros((), column.dtype)
        return Changes(hashes={name: {b"%d" % user: None} for name in self.hashes})

    def _load_user(self, row: int, record: bytes) -> None:
        state = UserState.from_bytes(record)
        session, heard, history = state.session_id.encode(), state.session_tracks(), state.last_listens()
        self._widen_ids(len(session))
        if len(heard) > self._users.heard.shape[1]:
            width = min(at_least(len(heard), self._users.heard.shape[1]), SESSION_TRACKS)
            self._users = resized(self._users, len(self._used), heard=width)
        table, count = self._users, len(history)
        table.listens[row], table.sessions[row] = state.listens, state.sessions
        table.poor_streak[row], table.session_listens[row] = state.poor_streak, state.session_listens
        table.last_ms[row] = state.last_timestamp_ms
        table.session[row, : len(session)], table.session_length[row] = np.frombuffer(session, np.uint8), len(session)
        table.heard[row, : len(heard)], table.heard_count[row] = heard, len(heard)
        table.history[row, :count], table.kept[row] = history, count

    def _load_likes(self, row: int, record: bytes) -> None:
        likes = Likes.from_bytes(record)
        session, every = likes.session_id.encode(), likes.all()
        self._widen_ids(len(session))
        table, count = self._likes, len(every)
        table.session[row, : len(session)], table.session_length[row] = np.frombuffer(session, np.uint8), len(session)
        table.seed_track[row], table.of_session[row], table.kept[row] = likes.seed_track, likes.of_session, count
        table.likes[row, :count] = every

    def _make_room(self, rows: int) -> None:
        if rows > len(self._used):
            rows = at_least(rows, len(self._used))
            self._numbers = np.concatenate([self._numbers, np.zeros(rows - len(self._used), dtype=np.int64)])
            self._met = np.zeros(rows, dtype=np.bool_)
            self._used = np.concatenate([self._used, np.zeros(rows - len(self._used), dtype=np.int64)])
            self._users, self._likes = resized(self._users, rows), resized(self._likes, rows)

    def _widen_ids(self, length: int) -> None:
        width = self._users.session.shape[1]
        if length > width:
            width = at_least(length, width)
            self._users = resized(self._users, len(self._used), session=width)
            self._likes = resized(self._likes, len(self._used), session=width)

    def _are_too_many(self, more: int) -> bool:
        count = self._row_of.count + more
        return count > max(self._most_rows // 2, 2 * more) and count > max(self._bounded_rows(), 2 * more)

    def _bounded_rows(self) -> int:
        row_bytes: int = sum(column[0].nbytes for column in (*self._users, *self._likes))
        return min(self._most_rows, self._most_rows * ROW_BYTES // row_bytes)

    def _forget(self) -> None:
        count = self._row_of.count
        kept = np.sort(np.argsort(self._used[:count], kind="stable")[-(self._bounded_rows() // 2) :])
        rows = at_least(len(kept), FEW_ROWS)
        numbers, used = np.zeros(rows, dtype=np.int64), np.zeros(rows, dtype=np.int64)
        numbers[: len(kept)], used[: len(kept)] = self._numbers[kept], self._used[kept]
        self._numbers, self._used, self._met = numbers, used, np.zeros(rows, dtype=np.bool_)
        self._users, self._likes = resized(self._users, rows, kept), resized(self._likes, rows, kept)
        self._row_of = RowsOfIds()
        self._row_of.of(numbers[: len(kept)])


def _bytes_of(column: NDArray[Any]) -> NDArray[np.uint8]:
    return column.view(np.uint8).reshape(len(column), -1)
