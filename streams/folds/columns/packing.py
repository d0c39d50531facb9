"""Records of many rows as one array of bytes, in the form that the store sends (`Bulk`), compiled by numba.

Each kernel names the scalar statement of its record. It fills an array that is large enough for the longest records of
all rows, and returns the part that it has filled.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from botify.streams.folds.columns.kernels import LikeRows, OpenRows, Users
from botify.streams.folds.likes import VERSION as LIKES_VERSION
from botify.streams.folds.users import VERSION as USERS_VERSION

FRAME_BYTES = 48  # room for the field, the two lengths and the ends of lines
_RETURN, _NEWLINE, _DOLLAR, _ZERO = 13, 10, 36, 48


@njit(cache=True)
def _digits(number: int) -> int:
    digits = 1
    while number >= 10:
        number //= 10
        digits += 1
    return digits


@njit(cache=True)
def _line(out: np.ndarray, at: int, number: int) -> int:
    end = at + _digits(number)
    for place in range(end - 1, at - 1, -1):
        out[place] = _ZERO + number % 10
        number //= 10
    out[end], out[end + 1] = _RETURN, _NEWLINE
    return end + 2


@njit(cache=True)
def _length(out: np.ndarray, at: int, length: int) -> int:
    out[at] = _DOLLAR
    return _line(out, at + 1, length)


@njit(cache=True)
def _field(out: np.ndarray, at: int, number: int) -> int:
    return _line(out, _length(out, at, _digits(number)), number)


@njit(cache=True)
def _integer(out: np.ndarray, at: int, number: int, size: int) -> int:
    for one in range(size):
        out[at + one] = (number >> (8 * one)) & 255
    return at + size


@njit(cache=True)
def _bytes(out: np.ndarray, at: int, row: np.ndarray, begin: int, end: int) -> int:
    for one in range(begin, end):
        out[at + one - begin] = row[one]
    return at + end - begin


@njit(cache=True)
def _ring(out: np.ndarray, at: int, row: np.ndarray, first: int, kept: int) -> int:
    at = _bytes(out, at, row, first, kept)
    return _bytes(out, at, row, 0, first)


@njit(cache=True)
def _end(out: np.ndarray, at: int) -> int:
    out[at], out[at + 1] = _RETURN, _NEWLINE
    return at + 2


@njit(cache=True)
def pack_users(
    users: Users, heard: np.ndarray, histories: np.ndarray, numbers: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Pack the records of rows, `numbers` being their listeners. `UserState.to_bytes`.

    `heard` and `histories` are the bytes of the table's columns, shape (n, width).
    """
    listen = histories.shape[1] // users.history.shape[1]
    longest = FRAME_BYTES + 28 + users.session.shape[1] + heard.shape[1] + histories.shape[1]
    out, at = np.empty(len(rows) * longest, dtype=np.uint8), 0
    for one in range(len(rows)):
        row = rows[one]
        session, tracks, kept = users.session_length[row], 4 * users.heard_count[row], listen * users.kept[row]
        at = _length(out, _field(out, at, numbers[one]), 28 + session + tracks + kept)
        out[at] = USERS_VERSION
        at = _integer(out, at + 1, users.listens[row], 4)
        at = _integer(out, at, users.sessions[row], 4)
        at = _integer(out, at, users.poor_streak[row], 4)
        at = _integer(out, at, users.session_listens[row], 4)
        at = _integer(out, at, users.last_ms[row], 8)
        out[at] = session
        at = _bytes(out, at + 1, users.session[row], 0, session)
        at = _integer(out, at, tracks, 2)
        at = _bytes(out, at, heard[row], 0, tracks)
        at = _end(out, _ring(out, at, histories[row], listen * users.first[row], kept))
    return out[:at]


@njit(cache=True)
def pack_likes(likes: LikeRows, rings: np.ndarray, numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Pack the likes of rows, `numbers` being their listeners. `Likes.to_bytes`.

    `rings` are the bytes of the table's likes, shape (n, width).
    """
    like = rings.shape[1] // likes.likes.shape[1]
    longest = FRAME_BYTES + 7 + likes.session.shape[1] + rings.shape[1]
    out, at = np.empty(len(rows) * longest, dtype=np.uint8), 0
    for one in range(len(rows)):
        row = rows[one]
        session, kept = likes.session_length[row], like * likes.kept[row]
        at = _length(out, _field(out, at, numbers[one]), 7 + session + kept)
        out[at], out[at + 1] = LIKES_VERSION, likes.of_session[row]
        at = _integer(out, at + 2, likes.seed_track[row], 4)
        out[at] = session
        at = _bytes(out, at + 1, likes.session[row], 0, session)
        at = _end(out, _ring(out, at, rings[row], like * likes.first[row], kept))
    return out[:at]


@njit(cache=True)
def pack_sessions(
    opened: OpenRows, times: np.ndarray, names: np.ndarray, ends: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Pack open sessions. `OpenSession.to_bytes`.

    `times` are the bits of `opened.time`. `names` are those of the policies, one after another; `ends` says where each
    begins, and the end of the last.
    """
    longest = FRAME_BYTES + 37 + len(names) + opened.session.shape[1]
    out, at = np.empty(len(rows) * longest, dtype=np.uint8), 0
    for one in range(len(rows)):
        row = rows[one]
        begin = end = 0
        if opened.policy[row] >= 0:
            begin, end = ends[opened.policy[row]], ends[opened.policy[row] + 1]
        session = opened.session_length[row]
        at = _length(out, _field(out, at, opened.user[row]), 37 + end - begin + session)
        at = _integer(out, at, opened.first_offset[row], 8)
        at = _integer(out, at, opened.started_ms[row], 8)
        at = _integer(out, at, opened.last_ms[row], 8)
        at = _integer(out, at, opened.tracks[row], 4)
        at = _integer(out, at, times[row], 8)
        out[at] = end - begin
        at = _bytes(out, at + 1, names, begin, end)
        at = _end(out, _bytes(out, at, opened.session[row], 0, session))
    return out[:at]


@njit(cache=True)
def pack_numbers(numbers: np.ndarray) -> np.ndarray:
    """Pack numbers in decimal."""
    out, at = np.empty(len(numbers) * FRAME_BYTES, dtype=np.uint8), 0
    for one in range(len(numbers)):
        at = _field(out, at, numbers[one])
    return out[:at]


@njit(cache=True)
def pack_rows(numbers: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Pack rows of bytes, each after a number in decimal."""
    size = values.shape[1]
    out, at = np.empty(len(numbers) * (FRAME_BYTES + size), dtype=np.uint8), 0
    for one in range(len(numbers)):
        at = _length(out, _field(out, at, numbers[one]), size)
        at = _end(out, _bytes(out, at, values[one], 0, size))
    return out[:at]
