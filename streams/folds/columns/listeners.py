"""Projections `users` and `likes` over columns: the states of `UserState` and `Likes`, a row a listener.

Histories and likes are kept as rings, so nothing moves; records are put together when they are written. Rows are
bounded: when there are too many, those that were used last are kept, and the others are read again when needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streams.folds.columns.kernels import LikeRows, Listens, Users, fold_likes, fold_users
from streams.folds.columns.table import FEW_ROWS, ID_BYTES, at_least, resized
from streams.folds.likes import LIKE, LIKES, LIKES_OF_USERS, Likes
from streams.folds.projection import Changes, Fields
from streams.folds.users import HISTORY_LISTENS, LISTEN, SESSION_TRACKS, USERS, UserState

Ints = NDArray[np.int64]

MOST_ROWS = 60_000
"""Half of them are kept; a row has 3 KiB."""

_HEARD = 16


class Listeners:
    """States and likes of the listeners of one partition.

    Parameters
    ----------
    with_likes : bool
    most_rows : int

    Attributes
    ----------
    duplicates : int
        Events dropped because their listener's history had their id.
    """

    def __init__(self, *, with_likes: bool, most_rows: int = MOST_ROWS) -> None:
        self.duplicates = 0
        self.hashes = (USERS, LIKES_OF_USERS) if with_likes else (USERS,)
        self._most_rows = most_rows
        self._row_of: dict[int, int] = {}
        self._used = np.zeros(FEW_ROWS, dtype=np.int64)  # in which run a row was used last
        self._run = 0
        self._users, self._likes = _no_users(FEW_ROWS), _no_likes(FEW_ROWS if with_likes else 0)
        self._batch_users: list[int] = []
        self._batch_rows = self._changed_likes = np.zeros(0, dtype=np.int64)
        self._rows = self._batch_rows  # of each listen

    def missing(self, users: Ints) -> dict[str, list[bytes]]:
        """Give each listener of a run a row, and return the fields to read for new rows."""
        batch, of_batch = np.unique(users, return_inverse=True)
        self._batch_users = batch.tolist()
        if len(self._row_of) + len(batch) > max(self._most_rows, 2 * len(batch)):
            self._forget()
        row_of = self._row_of
        new = [user for user in self._batch_users if user not in row_of]
        for user in new:
            row_of[user] = len(row_of)
        self._make_room(len(row_of))
        self._batch_rows = np.array([row_of[user] for user in self._batch_users], dtype=np.int64)
        self._rows = self._batch_rows[of_batch]
        self._run += 1
        self._used[self._batch_rows] = self._run
        fields = [b"%d" % user for user in new]
        return dict.fromkeys(self.hashes, fields) if fields else {}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load what is stored; a new listener has nothing."""
        load = self._load_user if collection == USERS else self._load_likes
        for field, record in values.items():
            if record is not None:
                load(self._row_of[int(field)], record)

    def fold(self, listens: Listens) -> NDArray[np.bool_]:
        """Fold the run whose users `missing` was given; return which listens are no duplicates."""
        kept = np.zeros(len(self._rows), dtype=np.bool_)
        self._widen_ids(int(listens.session_lengths.max(initial=0)))
        at = 0
        while (at := fold_users(self._users, self._rows, listens, kept, at)) < len(kept):
            width = min(2 * self._users.heard.shape[1], SESSION_TRACKS)
            self._users = resized(self._users, len(self._used), heard=width)
        self.duplicates += len(kept) - int(kept.sum())
        return kept

    def fold_likes(self, listens: Listens, kept: NDArray[np.bool_]) -> None:
        """Fold the listens that were kept."""
        changed = np.zeros(len(self._used), dtype=np.bool_)
        fold_likes(self._likes, self._rows[kept], listens, changed)
        self._changed_likes = np.flatnonzero(changed[self._batch_rows])

    def changes(self) -> Changes:
        """Return the records of the run's listeners."""
        users, likes = self._batch_users, self._changed_likes
        hashes: dict[str, Fields] = {}
        if users:
            hashes[USERS] = dict(zip([b"%d" % user for user in users], self._user_records(), strict=True))
        if len(likes):
            names = [b"%d" % users[at] for at in likes.tolist()]
            hashes[LIKES_OF_USERS] = dict(zip(names, self._like_records(self._batch_rows[likes]), strict=True))
        self._batch_users, self._changed_likes = [], likes[:0]
        return Changes(hashes=hashes)

    def _user_records(self) -> list[bytes]:
        table, rows = self._users, self._batch_rows
        history = _Rings(table.history, rows, table.first, table.kept)
        heard, sessions = _Parts(table.heard, rows), _Parts(table.session, rows)
        counts_of = (table.listens, table.sessions, table.poor_streak, table.session_listens)
        lengths_of = (table.last_ms, table.session_length, table.heard_count)
        numbers = np.stack([column[rows] for column in (*counts_of, *lengths_of)], axis=1).tolist()
        return [
            UserState.record_of(
                counts, last_ms, sessions.first(at, id_bytes), heard.first(at, 4 * heard_count), history.of(at)
            )
            for at, (*counts, last_ms, id_bytes, heard_count) in enumerate(numbers)
        ]

    def _like_records(self, rows: Ints) -> list[bytes]:
        table = self._likes
        likes, sessions = _Rings(table.likes, rows, table.first, table.kept), _Parts(table.session, rows)
        columns = (table.of_session, table.anchor, table.session_length)
        numbers = np.stack([column[rows] for column in columns], axis=1).tolist()
        return [
            Likes.record_of(of_session, anchor, sessions.first(at, id_bytes), likes.of(at))
            for at, (of_session, anchor, id_bytes) in enumerate(numbers)
        ]

    def _load_user(self, row: int, record: bytes) -> None:
        state = UserState.from_bytes(record)
        session, heard, history = state.session_id.encode(), state.session_tracks(), state.last_listens()
        self._widen_ids(len(session))
        if len(heard) > self._users.heard.shape[1]:
            width = min(at_least(len(heard), self._users.heard.shape[1]), SESSION_TRACKS)
            self._users = resized(self._users, len(self._used), heard=width)
        table, count = self._users, len(history)
        table.listens[row], table.sessions[row], table.poor_streak[row] = (
            state.listens,
            state.sessions,
            state.poor_streak,
        )
        table.session_listens[row], table.last_ms[row] = state.session_listens, state.last_timestamp_ms
        table.session[row, : len(session)], table.session_length[row] = np.frombuffer(session, np.uint8), len(session)
        table.heard[row, : len(heard)], table.heard_count[row] = heard, len(heard)
        table.history[row, :count], table.kept[row] = history, count

    def _load_likes(self, row: int, record: bytes) -> None:
        likes = Likes.from_bytes(record)
        session, every = likes.session_id.encode(), likes.all()
        self._widen_ids(len(session))
        table, count = self._likes, len(every)
        table.session[row, : len(session)], table.session_length[row] = np.frombuffer(session, np.uint8), len(session)
        table.anchor[row], table.of_session[row], table.kept[row] = likes.anchor, likes.of_session, count
        table.likes[row, :count] = every

    def _make_room(self, rows: int) -> None:
        if rows > len(self._used):
            rows = at_least(rows, len(self._used))
            self._used = np.concatenate([self._used, np.zeros(rows - len(self._used), dtype=np.int64)])
            self._users = resized(self._users, rows)
            if len(self._likes.anchor):
                self._likes = resized(self._likes, rows)

    def _widen_ids(self, length: int) -> None:
        width = self._users.session.shape[1]
        if length > width:
            width = at_least(length, width)
            self._users = resized(self._users, len(self._used), session=width)
            self._likes = resized(self._likes, len(self._likes.anchor), session=width)

    def _forget(self) -> None:
        """Keep the rows that were used last."""
        users = np.fromiter(self._row_of, dtype=np.int64, count=len(self._row_of))
        kept = np.sort(np.argsort(self._used[: len(users)], kind="stable")[-(self._most_rows // 2) :])
        rows = at_least(len(kept), FEW_ROWS)
        used = np.zeros(rows, dtype=np.int64)
        used[: len(kept)] = self._used[kept]
        self._used = used
        self._users = resized(self._users, rows, kept)
        if len(self._likes.anchor):
            self._likes = resized(self._likes, rows, kept)
        self._row_of = {user: row for row, user in enumerate(users[kept].tolist())}


class _Parts:
    """Rows of a table as bytes."""

    def __init__(self, column: NDArray[Any], rows: Ints) -> None:
        self.size = column.shape[1] * column.itemsize
        self.raw = column[rows].tobytes()

    def first(self, at: int, size: int) -> bytes:
        """Return the first bytes of the row at a place."""
        begin = at * self.size
        return self.raw[begin : begin + size]


class _Rings(_Parts):
    """Rows of a table of rings as bytes, the oldest first."""

    def __init__(self, column: NDArray[Any], rows: Ints, first: Ints, kept: Ints) -> None:
        super().__init__(column, rows)
        self.turns: list[int] = (first[rows] * column.itemsize).tolist()
        self.sizes: list[int] = (kept[rows] * column.itemsize).tolist()

    def of(self, at: int) -> bytes:
        """Return the ring at a place."""
        ring, turn = self.first(at, self.sizes[at]), self.turns[at]
        return ring[turn:] + ring[:turn] if turn else ring


def _no_users(rows: int) -> Users:
    def ints() -> Ints:
        return np.zeros(rows, dtype=np.int64)

    return Users(
        listens=ints(),
        sessions=ints(),
        poor_streak=ints(),
        session_listens=ints(),
        last_ms=ints(),
        session=np.zeros((rows, ID_BYTES), dtype=np.uint8),
        session_length=ints(),
        heard=np.zeros((rows, _HEARD), dtype=np.int32),
        heard_count=ints(),
        history=np.zeros((rows, HISTORY_LISTENS), dtype=LISTEN),
        first=ints(),
        kept=ints(),
    )


def _no_likes(rows: int) -> LikeRows:
    def ints() -> Ints:
        return np.zeros(rows, dtype=np.int64)

    return LikeRows(
        session=np.zeros((rows, ID_BYTES), dtype=np.uint8),
        session_length=ints(),
        anchor=np.full(rows, -1, dtype=np.int64),
        of_session=ints(),
        likes=np.zeros((rows, LIKES), dtype=LIKE),
        first=ints(),
        kept=ints(),
    )
