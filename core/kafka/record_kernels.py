"""Where the records of a fetch lie in its bytes: Kafka's record batches of version 2, compiled by numba.

https://kafka.apache.org/documentation/#messageformat has the layout. Only plain batches are read here: not compressed,
no control batches, no earlier version. The compiled code is cached next to this file, or under `NUMBA_CACHE_DIR`.
"""

from typing import Any

import numpy as np
from numba import njit

BATCH_HEADER = 61
_LENGTH_ENDS = 12
_VERSION_AT, _ATTRIBUTES_AT, _LAST_DELTA_AT, _FIRST_TIME_AT, _MAX_TIME_AT, _COUNT_AT = 16, 21, 23, 27, 35, 57
_NOT_PLAIN = 0x27  # the codec, and whether it is a control batch
_LOG_APPEND_TIME = 0x08
_LAST_SHIFT = 63


@njit(cache=True)
def _big_endian(raw: np.ndarray, at: int, size: int) -> Any:
    value = np.int64(raw[at])
    if value > 127:
        value -= 256
    for next_at in range(at + 1, at + size):
        value = (value << 8) | np.int64(raw[next_at])
    return value


@njit(cache=True)
def read_zigzag(raw: np.ndarray, at: int, end: int, last_shift: int) -> tuple[Any, int]:
    """Read a number of Kafka's or Avro's variable length; return it and the place after it.

    The place is -1 if the number does not end before `end` or has more than `last_shift` bits before its last byte.
    """
    value, shift = np.uint64(0), 0
    while at < end and shift <= last_shift:
        byte = np.uint64(raw[at])
        at += 1
        value |= (byte & np.uint64(0x7F)) << np.uint64(shift)
        if byte < 0x80:
            return np.int64(value >> np.uint64(1)) ^ -np.int64(value & np.uint64(1)), at
        shift += 7
    return np.int64(0), -1


@njit(cache=True)
def _varint(raw: np.ndarray, at: int, end: int) -> tuple[Any, int]:
    return read_zigzag(raw, at, end, _LAST_SHIFT)


@njit(cache=True)
def count_records(raw: np.ndarray) -> tuple[int, int]:
    """Return the number of records in the whole batches, and the offset after them; -1, -1 if one is not plain."""
    at, count, next_offset = 0, 0, -1
    while at + _LENGTH_ENDS <= len(raw):
        end = at + _LENGTH_ENDS + _big_endian(raw, at + 8, 4)
        if end > len(raw):
            break  # the last one is cut off by the size of the fetch
        if end < at + BATCH_HEADER or raw[at + _VERSION_AT] != 2 or raw[at + _ATTRIBUTES_AT + 1] & _NOT_PLAIN:
            return -1, -1
        records = _big_endian(raw, at + _COUNT_AT, 4)
        if records < 0 or records > end - at:
            return -1, -1
        count += records
        next_offset = _big_endian(raw, at, 8) + _big_endian(raw, at + _LAST_DELTA_AT, 4) + 1
        at = end
    return count, next_offset


@njit(cache=True)
def _are_headers(raw: np.ndarray, at: int, end: int) -> bool:
    count, at = _varint(raw, at, end)
    if at < 0 or count < 0:
        return False
    for part in range(2 * count):
        length, at = _varint(raw, at, end)
        if at < 0 or length > end - at or (length < 0 and part % 2 == 0):
            return False
        at += max(length, 0)
    return at == end


@njit(cache=True)
def index_records(raw: np.ndarray, places: np.ndarray) -> bool:
    """Write where the records lie in `raw` into `places`, int64 of shape (7, n); return False if a record is broken.

    The rows are offset, time, begin and end of key and of value (-1 if missing), and begin of headers, at their number.
    """
    at, row = 0, 0
    while at + _LENGTH_ENDS <= len(raw):
        end = at + _LENGTH_ENDS + _big_endian(raw, at + 8, 4)
        if end > len(raw):
            break
        first_offset, first_ms = _big_endian(raw, at, 8), _big_endian(raw, at + _FIRST_TIME_AT, 8)
        appended = raw[at + _ATTRIBUTES_AT + 1] & _LOG_APPEND_TIME != 0
        max_ms, records = _big_endian(raw, at + _MAX_TIME_AT, 8), _big_endian(raw, at + _COUNT_AT, 4)
        at += BATCH_HEADER
        for _ in range(records):
            length, at = _varint(raw, at, end)
            stop = at + length
            if at < 0 or length < 1 or stop > end:
                return False
            delta_ms, at = _varint(raw, at + 1, stop)  # after a byte of attributes, which are unused
            if at < 0:
                return False
            delta, at = _varint(raw, at, stop)
            if at < 0:
                return False
            places[0, row] = first_offset + delta
            places[1, row] = max_ms if appended else first_ms + delta_ms
            for part in (2, 4):
                length, at = _varint(raw, at, stop)
                if at < 0 or length > stop - at:
                    return False
                if length < 0:
                    places[part, row] = places[part + 1, row] = -1
                else:
                    places[part, row], places[part + 1, row] = at, at + length
                    at += length
            places[6, row] = at
            if not _are_headers(raw, at, stop):
                return False
            at, row = stop, row + 1
        if at != end:
            return False
    return True
