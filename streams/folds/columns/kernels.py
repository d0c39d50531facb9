"""The loops over listens, compiled by numba; each names the scalar statement that it equals.

State is in arrays with a row a listener, or an open session. The compiled code is cached next to this file, or under
`NUMBA_CACHE_DIR`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from botify.streams.folds.likes import LIKED_FRACTION, LIKES, SESSION_LIKES
from botify.streams.folds.users import HISTORY_LISTENS, POOR_FRACTION, SESSION_TRACKS

Ints = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class Listens(NamedTuple):
    """The columns that the kernels read; see `ListenColumns`."""

    text: Bytes
    tracks: Ints
    timestamps_ms: Ints
    fractions: NDArray[np.float64]
    events: NDArray[np.uint64]
    session_begins: Ints
    session_lengths: Ints
    ended: NDArray[np.bool_]


class Users(NamedTuple):
    """`UserState`, a row a listener. The history is a ring of `kept` listens, the oldest at `first`."""

    listens: Ints
    sessions: Ints
    poor_streak: Ints
    session_listens: Ints
    last_ms: Ints
    session: Bytes
    session_length: Ints
    heard: NDArray[np.int32]
    heard_count: Ints
    history: Any  # of dtype `LISTEN`, shape (n, HISTORY_LISTENS)
    first: Ints
    kept: Ints


class LikeRows(NamedTuple):
    """`Likes`, a row a listener; the likes are a ring as well."""

    session: Bytes
    session_length: Ints
    seed_track: Ints
    of_session: Ints
    likes: Any  # of dtype `LIKE`, shape (n, LIKES)
    first: Ints
    kept: Ints


class OpenRows(NamedTuple):
    """`OpenSession`, a row each; `policy` is -1 while there is none."""

    user: Ints
    opened: NDArray[np.bool_]
    touched: NDArray[np.bool_]
    first_offset: Ints
    started_ms: Ints
    last_ms: Ints
    tracks: Ints
    time: NDArray[np.float64]
    policy: Ints
    session: Bytes
    session_length: Ints


class Closed(NamedTuple):
    """Sessions that a batch has closed, in order: copies of their rows, and why (0 `end`, 1 `next`, 2 `gap`)."""

    numbers: Ints  # shape (n, 6): user, first offset, start, end, tracks, reason
    time: NDArray[np.float64]
    session: Bytes
    session_length: Ints


END, NEXT, GAP = 0, 1, 2


@njit(cache=True)
def _same_session(session: np.ndarray, length: int, listens: Listens, at: int) -> bool:
    if length != listens.session_lengths[at]:
        return False
    begin = listens.session_begins[at]
    for one in range(length):  # noqa: SIM110 - numba has no generators
        if session[one] != listens.text[begin + one]:
            return False
    return True


@njit(cache=True)
def _copy_session(session: np.ndarray, listens: Listens, at: int) -> Any:
    begin, length = listens.session_begins[at], listens.session_lengths[at]
    for one in range(length):
        session[one] = listens.text[begin + one]
    return length


@njit(cache=True)
def fold_users(users: Users, rows: np.ndarray, listens: Listens, kept: np.ndarray, begin: int) -> int:
    """Fold listens in order from `begin` on; `kept` says which are no duplicates. `UserState.fold`.

    Returns the next listen: less than their number if `heard` must first be widened.
    """
    for at in range(begin, len(rows)):
        row = rows[at]
        if users.heard_count[row] == users.heard.shape[1] < SESSION_TRACKS:
            return at
        kept[at] = True
        for one in range(users.kept[row]):
            if users.history[row, one].event == listens.events[at]:
                kept[at] = False
                break
        if not kept[at]:
            continue
        if users.kept[row] < HISTORY_LISTENS:
            place = users.kept[row]
            users.kept[row] += 1
        else:
            place = users.first[row]
            users.first[row] = (place + 1) % HISTORY_LISTENS
        fraction = listens.fractions[at]
        latest = users.history[row, place]
        latest.event, latest.timestamp_ms = listens.events[at], listens.timestamps_ms[at]
        latest.fraction, latest.track = fraction, listens.tracks[at]
        users.listens[row] += 1
        users.last_ms[row] = listens.timestamps_ms[at]
        if not _same_session(users.session[row], users.session_length[row], listens, at):
            users.session_length[row] = _copy_session(users.session[row], listens, at)
            users.session_listens[row] = users.poor_streak[row] = users.heard_count[row] = 0
            users.sessions[row] += 1
        users.session_listens[row] += 1
        if users.heard_count[row] < SESSION_TRACKS:
            users.heard[row, users.heard_count[row]] = listens.tracks[at]
            users.heard_count[row] += 1
        users.poor_streak[row] = users.poor_streak[row] + 1 if fraction <= POOR_FRACTION else 0
    return len(rows)


@njit(cache=True)
def fold_likes(likes: LikeRows, rows: np.ndarray, listens: Listens, changed: np.ndarray) -> None:
    """Fold listens in order; `changed` says of which rows. `Likes.fold`."""
    for at in range(len(rows)):
        row = rows[at]
        if not _same_session(likes.session[row], likes.session_length[row], listens, at):
            likes.session_length[row] = _copy_session(likes.session[row], listens, at)
            likes.seed_track[row], likes.of_session[row] = listens.tracks[at], 0
            changed[row] = True
        fraction = listens.fractions[at]
        if fraction < LIKED_FRACTION or likes.of_session[row] >= SESSION_LIKES:
            continue
        likes.of_session[row] += 1
        if likes.kept[row] < LIKES:
            place = likes.kept[row]
            likes.kept[row] += 1
        else:
            place = likes.first[row]
            likes.first[row] = (place + 1) % LIKES
        latest = likes.likes[row, place]
        latest.track, latest.seed_track, latest.fraction = listens.tracks[at], likes.seed_track[row], fraction
        changed[row] = True


@njit(cache=True)
def _before(heap: np.ndarray, one: int, other: int) -> Any:
    for column in range(3):
        if heap[one, column] != heap[other, column]:
            return heap[one, column] < heap[other, column]
    return False


@njit(cache=True)
def _swap(heap: np.ndarray, one: int, other: int) -> None:
    for column in range(4):
        heap[one, column], heap[other, column] = heap[other, column], heap[one, column]


@njit(cache=True)
def push(heap: np.ndarray, size: int, opened: OpenRows, row: int) -> int:
    """Add a session's row by (last_ms, user, first offset); return the new size."""
    heap[size, 0], heap[size, 1] = opened.last_ms[row], opened.user[row]
    heap[size, 2], heap[size, 3] = opened.first_offset[row], row
    at = size
    while at > 0 and _before(heap, at, (at - 1) // 2):
        _swap(heap, at, (at - 1) // 2)
        at = (at - 1) // 2
    return size + 1


@njit(cache=True)
def _pop(heap: np.ndarray, size: int) -> int:
    """Move the least entry to the end; return the new size, at which it lies."""
    size -= 1
    _swap(heap, 0, size)
    at = 0
    while True:
        least, left = at, 2 * at + 1
        for child in (left, left + 1):
            if child < size and _before(heap, child, least):
                least = child
        if least == at:
            return size
        _swap(heap, at, least)
        at = least


@njit(cache=True)
def _close(opened: OpenRows, row: int, reason: int, closed: Closed, count: int) -> int:
    opened.opened[row] = False
    closed.numbers[count, 0], closed.numbers[count, 1] = opened.user[row], opened.first_offset[row]
    closed.numbers[count, 2], closed.numbers[count, 3] = opened.started_ms[row], opened.last_ms[row]
    closed.numbers[count, 4], closed.numbers[count, 5] = opened.tracks[row], reason
    closed.time[count], closed.session_length[count] = opened.time[row], opened.session_length[row]
    closed.session[count] = opened.session[row]
    return count + 1


@njit(cache=True)
def fold_sessions(
    opened: OpenRows,
    heap: np.ndarray,
    size: int,
    rows: np.ndarray,
    offsets: np.ndarray,
    policies: np.ndarray,
    listens: Listens,
    watermark_ms: int,
    gap_ms: int,
    closed: Closed,
) -> tuple[int, int, int]:
    """Fold listens in order; return the heap's size, the watermark and the number of closed sessions.

    `rows` are of each listen's user, whose `user` is set. `policies` are -1 for listens that were not recommended.
    """
    count = 0
    for at in range(len(rows)):
        row, time_ms, fraction = rows[at], listens.timestamps_ms[at], listens.fractions[at]
        watermark_ms = max(watermark_ms, time_ms)
        while size and heap[0, 0] + gap_ms < watermark_ms:
            size = _pop(heap, size)
            old = heap[size, 3]
            if not opened.opened[old] or opened.user[old] != heap[size, 1] or opened.first_offset[old] != heap[size, 2]:
                continue
            if opened.last_ms[old] > heap[size, 0]:
                size = push(heap, size, opened, old)
            else:
                count = _close(opened, old, GAP, closed, count)
                opened.touched[old] = True
        opened.touched[row] = True
        same = opened.opened[row] and _same_session(opened.session[row], opened.session_length[row], listens, at)
        if not same:
            if opened.opened[row]:
                count = _close(opened, row, NEXT, closed, count)
            opened.opened[row], opened.policy[row] = True, -1
            opened.first_offset[row], opened.tracks[row], opened.time[row] = offsets[at], 0, 0.0
            opened.started_ms[row] = opened.last_ms[row] = time_ms
            opened.session_length[row] = _copy_session(opened.session[row], listens, at)
            size = push(heap, size, opened, row)
        opened.tracks[row] += 1
        opened.time[row] += fraction
        if opened.policy[row] < 0:
            opened.policy[row] = policies[at]
        opened.last_ms[row] = max(opened.last_ms[row], time_ms)
        if listens.ended[at]:
            count = _close(opened, row, END, closed, count)
    return size, watermark_ms, count


@njit(cache=True)
def merge_top(tracks: np.ndarray, scores: np.ndarray, heard: np.ndarray, of_heard: np.ndarray, size: int) -> Any:
    """Return the best `size` of `tracks` and `heard`, whose scores are newer; both are in the order of ids. `Top`.

    Returns tracks and scores in the order of ids, which of `heard` are among them, and which of `tracks` no longer are.
    """
    most = len(tracks) + len(heard)
    every, of_every = np.empty(most, dtype=np.int64), np.empty(most)
    at_heard, of_top = np.full(most, -1), np.zeros(most, dtype=np.bool_)
    track = one = count = 0
    while track < len(tracks) or one < len(heard):
        was_in = one == len(heard) or (track < len(tracks) and tracks[track] <= heard[one])
        is_heard = track == len(tracks) or (one < len(heard) and heard[one] <= tracks[track])
        if was_in:
            every[count], of_every[count], of_top[count] = tracks[track], scores[track], True
            track += 1
        if is_heard:
            every[count], of_every[count], at_heard[count] = heard[one], of_heard[one], one
            one += 1
        count += 1
    limit, equal = -np.inf, count
    if count > size:
        limit = np.partition(of_every[:count], count - size)[count - size]
        equal = size - np.sum(of_every[:count] > limit)
    stays, left = np.zeros(len(heard), dtype=np.bool_), np.empty(len(tracks), dtype=np.int64)
    kept = lefts = 0
    for place in range(count):
        if of_every[place] > limit or (of_every[place] == limit and equal > 0):
            equal -= of_every[place] == limit
            every[kept], of_every[kept] = every[place], of_every[place]
            kept += 1
            if at_heard[place] >= 0:
                stays[at_heard[place]] = True
        elif of_top[place]:
            left[lefts] = every[place]
            lefts += 1
    return every[:kept].copy(), of_every[:kept].copy(), stays, left[:lefts]
