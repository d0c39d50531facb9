"""Listens out of their bytes, field by field, compiled by numba; `Codec.decode` and `check` say what a listen is.

Only what is plainly a good listen of the newest schema is read here: text is ASCII, numbers have at most nine bytes,
maps have one block. The compiled code is cached, see `botify.core.numba_cache`.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from botify.core.kafka.record_kernels import read_zigzag
from botify.schemas.columns import MAX_ENTRIES
from botify.schemas.validation import MAX_ID_BYTES, MAX_TIMESTAMP_MS, MAX_TRACK, MAX_USER

_LAST_SHIFT = 56
_ABSENT = -1
_C1, _C2 = np.uint64(0x87C37B91114253D5), np.uint64(0x4CF5AD432745937F)
_MIX_1, _MIX_2 = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)


class Fields(NamedTuple):
    """What is read of each listen; arrays of shape (n,)."""

    users: NDArray[np.int64]
    tracks: NDArray[np.int64]
    timestamps_ms: NDArray[np.int64]
    fractions: NDArray[np.uint64]  # the bits of the doubles
    # events, sessions: hashes of the ids
    events: NDArray[np.uint64]
    sessions: NDArray[np.uint64]
    # session_begins, session_lengths: where the session's id lies
    session_begins: NDArray[np.int64]
    session_lengths: NDArray[np.int64]
    ended: NDArray[np.bool_]
    # recommenders, policies: shape (n, 2): begins and lengths; the length is -1 where there is none
    recommenders: NDArray[np.int64]
    policies: NDArray[np.int64]


@njit(cache=True)
def _long(raw: np.ndarray, at: int, end: int) -> tuple[Any, int]:
    """Read a zigzag number; return it and the place after it, -1 if there is none."""
    if at < 0:
        return np.int64(0), -1
    return read_zigzag(raw, at, end, _LAST_SHIFT)


@njit(cache=True)
def _text(raw: np.ndarray, at: int, end: int) -> tuple[int, int]:
    """Skip ASCII text; return its begin and the place after it, -1 if there is none."""
    length, at = _long(raw, at, end)
    if at < 0 or length < 0 or length > end - at:
        return 0, -1
    for one in range(at, at + length):
        if raw[one] > 127:
            return 0, -1
    return at, at + length


@njit(cache=True)
def _optional_text(raw: np.ndarray, at: int, end: int) -> tuple[int, int, int]:
    """Skip text or null; return begin, length (-1 for null) and the place after it."""
    branch, at = _long(raw, at, end)
    if branch == 0:
        return 0, _ABSENT, at
    if branch != 1:
        return 0, _ABSENT, -1
    begin, at = _text(raw, at, end)
    return begin, at - begin, at


@njit(cache=True)
def _skip_optional_double(raw: np.ndarray, at: int, end: int) -> int:
    branch, at = _long(raw, at, end)
    if at < 0 or branch == 0:
        return at
    return at + 8 if branch == 1 and at + 8 <= end else -1


@njit(cache=True)
def _skip_map(raw: np.ndarray, at: int, end: int) -> int:
    count, at = _long(raw, at, end)
    if at < 0 or count < 0 or count > MAX_ENTRIES:
        return -1
    for _ in range(2 * count):
        _, at = _text(raw, at, end)
    if count:
        more, at = _long(raw, at, end)
        if more != 0:
            return -1
    return at


@njit(cache=True)
def _rotated(value: np.uint64, by: int) -> np.uint64:
    return (value << np.uint64(by)) | (value >> np.uint64(64 - by))


@njit(cache=True)
def _mixed(value: np.uint64) -> np.uint64:
    value = (value ^ (value >> np.uint64(33))) * _MIX_1
    value = (value ^ (value >> np.uint64(33))) * _MIX_2
    return value ^ (value >> np.uint64(33))


@njit(cache=True)
def hash_of(raw: np.ndarray, begin: int, end: int) -> np.uint64:
    """Return the first half of MurmurHash3's 128 bits for 64-bit machines, as `mmh3.hash_bytes` does."""
    h1, h2, at = np.uint64(0), np.uint64(0), begin
    while True:
        size = min(end - at, 16)
        k1, k2 = np.uint64(0), np.uint64(0)
        for one in range(min(size, 8)):
            k1 |= np.uint64(raw[at + one]) << np.uint64(8 * one)
        for one in range(8, size):
            k2 |= np.uint64(raw[at + one]) << np.uint64(8 * (one - 8))
        h1 = np.uint64(h1 ^ (_rotated(k1 * _C1, 31) * _C2))
        if size == 16:
            h1 = np.uint64((_rotated(h1, 27) + h2) * np.uint64(5) + np.uint64(0x52DCE729))
        h2 = np.uint64(h2 ^ (_rotated(k2 * _C2, 33) * _C1))
        if size < 16:
            break
        h2 = np.uint64((_rotated(h2, 31) + h1) * np.uint64(5) + np.uint64(0x38495AB5))
        at += 16
    length = np.uint64(end - begin)
    h1 ^= length
    h2 ^= length
    h1 += h2
    h2 += h1
    return _mixed(h1) + _mixed(h2)


@njit(cache=True)
def _is_key(raw: np.ndarray, begin: int, end: int, user: int) -> Any:
    """Say whether the key is the user's id in decimal."""
    if begin < 0 or begin == end or end - begin > 16 or (raw[begin] == 48 and end - begin > 1):
        return False
    number = np.int64(0)
    for at in range(begin, end):
        digit = np.int64(raw[at]) - 48
        if digit < 0 or digit > 9:
            return False
        number = 10 * number + digit
    return number == user


@njit(cache=True)
def read_listens(
    raw: np.ndarray, keys: np.ndarray, values: np.ndarray, header: np.ndarray, fields: Fields, good: np.ndarray
) -> None:
    """Read each value that is plainly a listen which `check` accepts, its fraction aside; `good` says which.

    `keys` and `values`, shape (2, n), are begins and ends in `raw`, -1 where there is none. A listen of the newest
    schema begins with `header`.
    """
    for row in range(values.shape[1]):
        good[row] = _read(raw, keys[0, row], keys[1, row], values[0, row], values[1, row], header, fields, row)


@njit(cache=True)
def _read(
    raw: np.ndarray, key: int, key_end: int, at: int, end: int, header: np.ndarray, fields: Fields, row: int
) -> bool:
    if at < 0 or end - at < len(header):
        return False
    for byte in header:
        if raw[at] != byte:
            return False
        at += 1
    event, event_end = _text(raw, at, end)
    user, at = _long(raw, event_end, end)
    track, at = _long(raw, at, end)
    if at < 0 or end - at < 8:
        return False
    bits = np.uint64(0)
    for one in range(8):
        bits |= np.uint64(raw[at + one]) << np.uint64(8 * one)
    timestamp_ms, at = _long(raw, at + 8, end)
    session, session_end = _text(raw, at, end)
    position, at = _long(raw, session_end, end)
    if at < 0 or at >= end or raw[at] > 1:
        return False
    ended = raw[at] == 1
    recommender, recommender_length, at = _optional_text(raw, at + 1, end)
    at = _skip_optional_double(raw, _skip_optional_double(raw, _skip_map(raw, at, end), end), end)
    policy, policy_length, at = _optional_text(raw, at, end)
    branch, at = _long(raw, at, end)
    if branch == 1:
        _, at = _long(raw, at, end)
    elif branch != 0:
        return False
    if at != end or position < 0 or not 0 <= timestamp_ms <= MAX_TIMESTAMP_MS:
        return False
    if not (0 <= user <= MAX_USER and 0 <= track <= MAX_TRACK and _is_key(raw, key, key_end, user)):
        return False
    if not (0 < event_end - event <= MAX_ID_BYTES and 0 < session_end - session <= MAX_ID_BYTES):
        return False
    fields.users[row], fields.tracks[row], fields.timestamps_ms[row] = user, track, timestamp_ms
    fields.fractions[row], fields.ended[row] = bits, ended
    fields.events[row], fields.sessions[row] = hash_of(raw, event, event_end), hash_of(raw, session, session_end)
    fields.session_begins[row], fields.session_lengths[row] = session, session_end - session
    fields.recommenders[row, 0], fields.recommenders[row, 1] = recommender, recommender_length
    fields.policies[row, 0], fields.policies[row, 1] = policy, policy_length
    return True


@njit(cache=True)
def _same(raw: np.ndarray, one: np.ndarray, other: np.ndarray) -> bool:
    if one[1] != other[1]:
        return False
    for at in range(one[1]):  # noqa: SIM110 - numba has no generators
        if raw[one[0] + at] != raw[other[0] + at]:
            return False
    return True


@njit(cache=True)
def first_rows(
    raw: np.ndarray, recommenders: np.ndarray, policies: np.ndarray, good: np.ndarray, firsts: np.ndarray
) -> None:
    """Write the first row that has the recommender and policy, shape (n, 2), of each good row; -1 for the others."""
    size = 16
    while size < 2 * len(firsts):
        size *= 2
    table = np.full(size, -1, dtype=np.int64)
    for row in range(len(firsts)):
        firsts[row] = -1
        if not good[row]:
            continue
        hashed = np.uint64(policies[row, 1] + 1)
        for place in (recommenders[row], policies[row]):
            for at in range(place[0], place[0] + max(place[1], 0)):
                hashed = (hashed ^ np.uint64(raw[at])) * np.uint64(0x100000001B3)
        slot = np.int64(_mixed(hashed) & np.uint64(size - 1))
        while True:
            known = table[slot]
            if known < 0:
                known = table[slot] = row
            if _same(raw, recommenders[row], recommenders[known]) and _same(raw, policies[row], policies[known]):
                firsts[row] = known
                break
            slot = (slot + 1) & (size - 1)


@njit(cache=True)
def first_leap(
    timestamps_ms: np.ndarray, taken_ms: np.ndarray, begin: int, newest_ms: int, lead_ms: int, declared: bool
) -> tuple[int, int]:
    """Return the first row from `begin` on whose time leads by more than a bound, and the newest time before it.

    If the topic has not `declared` the bound, a listen may lead the newest by it, too (`EventTime`).
    """
    for row in range(begin, len(timestamps_ms)):
        if timestamps_ms[row] > newest_ms:
            since_ms = taken_ms[row] if declared else max(taken_ms[row], newest_ms)
            if timestamps_ms[row] - since_ms > lead_ms:
                return row, newest_ms
            newest_ms = timestamps_ms[row]
    return len(timestamps_ms), newest_ms
