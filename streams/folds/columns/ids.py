"""Rows of tables: how ids find theirs, and how tables, which are arrays with a row a listener, grow.

Ids are in a hash table in two arrays, compiled by numba, so that a batch is looked up in one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]

T = TypeVar("T", bound=tuple[Any, ...])

FEW_ROWS = 256
ID_BYTES = 32  # room for a session's id at first

_EMPTY = -1
_FEW = 1024
_MIX_1, _MIX_2, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53), np.uint64(33)
"""Of murmur3's end, which spreads any ids."""


class Slots(NamedTuple):
    """An id and its row in each slot; `ids` is -1 where there is none. The number of slots is a power of two."""

    ids: Ints
    rows: Ints


@njit(cache=True)
def _home(slots: Slots, number: int) -> Any:
    mixed = np.uint64(number) ^ (np.uint64(number) >> _SHIFT)
    mixed *= _MIX_1
    mixed ^= mixed >> _SHIFT
    mixed *= _MIX_2
    mixed ^= mixed >> _SHIFT
    return np.int64(mixed & np.uint64(len(slots.ids) - 1))


@njit(cache=True)
def _slot(slots: Slots, number: int) -> Any:
    at = _home(slots, number)
    while slots.ids[at] != _EMPTY and slots.ids[at] != number:
        at = (at + 1) & (len(slots.ids) - 1)
    return at


@njit(cache=True)
def find_or_add(
    slots: Slots, numbers: np.ndarray, rows: np.ndarray, free: np.ndarray, frees: int, count: int, new: np.ndarray
) -> tuple[int, int, int]:
    """Set the row of each id; a new id takes the last free row, or the next one.

    Returns the number of free rows and of rows that are left, and of new ids, whose places in `numbers` are in `new`.
    """
    news = 0
    for one in range(len(numbers)):
        at = _slot(slots, numbers[one])
        if slots.ids[at] == _EMPTY:
            slots.ids[at] = numbers[one]
            if frees:
                frees -= 1
                slots.rows[at] = free[frees]
            else:
                slots.rows[at] = count
                count += 1
            new[news] = one
            news += 1
        rows[one] = slots.rows[at]
    return frees, count, news


@njit(cache=True)
def remove(slots: Slots, numbers: np.ndarray) -> None:
    """Remove ids, and move those that follow to where they are found."""
    last = len(slots.ids) - 1
    for one in range(len(numbers)):
        gap = _slot(slots, numbers[one])
        at = (gap + 1) & last
        while slots.ids[at] != _EMPTY:
            if (at - _home(slots, slots.ids[at])) & last >= (at - gap) & last:
                slots.ids[gap], slots.rows[gap] = slots.ids[at], slots.rows[at]
                gap = at
            at = (at + 1) & last
        slots.ids[gap] = _EMPTY


@njit(cache=True)
def move(slots: Slots, others: Slots) -> None:
    """Put all ids into other slots."""
    for at in range(len(slots.ids)):
        if slots.ids[at] != _EMPTY:
            other = _slot(others, slots.ids[at])
            others.ids[other], others.rows[other] = slots.ids[at], slots.rows[at]


@njit(cache=True)
def first_of_each(rows: np.ndarray, met: np.ndarray) -> np.ndarray:
    """Return the first place of each row, in order. `met` is all False, before and after."""
    firsts, count = np.empty(len(rows), dtype=np.int64), 0
    for one in range(len(rows)):
        if not met[rows[one]]:
            met[rows[one]] = True
            firsts[count] = one
            count += 1
    for one in range(count):
        met[rows[firsts[one]]] = False
    return firsts[:count]


class RowsOfIds:
    """The rows of ids, which are 0 or more; `count` rows were given so far."""

    def __init__(self) -> None:
        self.count = 0
        self._slots = _no_slots(_FEW)
        self._free = np.zeros(_FEW, dtype=np.int64)
        self._frees = 0

    def __len__(self) -> int:
        return self.count - self._frees

    def of(self, numbers: Ints) -> tuple[Ints, Ints]:
        """Return the rows of ids, and the places of those that are new."""
        needed, slots = 2 * (len(self) + len(numbers)), len(self._slots.ids)
        if needed > slots:
            larger = _no_slots(at_least(needed, slots))
            move(self._slots, larger)
            self._slots = larger
        rows, new = np.empty(len(numbers), dtype=np.int64), np.empty(len(numbers), dtype=np.int64)
        self._frees, self.count, news = find_or_add(
            self._slots, numbers, rows, self._free, self._frees, self.count, new
        )
        return rows, new[:news]

    def remove(self, numbers: Ints, rows: Ints) -> None:
        remove(self._slots, numbers)
        frees = self._frees + len(rows)
        if frees > len(self._free):
            self._free = np.resize(self._free, at_least(frees, len(self._free)))
        self._free[self._frees : frees] = rows
        self._frees = frees


def _no_slots(size: int) -> Slots:
    return Slots(np.full(size, _EMPTY, dtype=np.int64), np.zeros(size, dtype=np.int64))


def zeros(kind: type[T], rows: int, **columns: NDArray[Any]) -> T:
    """Return a table of rows that are zero: int64 where no column is given."""
    names: Any = kind
    made: T = names(*(columns[name] if name in columns else np.zeros(rows, dtype=np.int64) for name in names._fields))
    return made


def resized(arrays: T, rows: int, order: NDArray[np.int64] | None = None, **widths: int) -> T:
    """Return copies with another number of rows, the new ones zero.

    `order` are the rows to keep, in their new order, by default all. `widths` are larger second dimensions, by name.
    """
    fields: Any = arrays
    copies = []
    for name, array in fields._asdict().items():
        kept = array if order is None else array[order]
        copy = np.zeros((rows, *((widths[name],) if name in widths else array.shape[1:])), dtype=array.dtype)
        if copy.ndim == 1:
            copy[: len(kept)] = kept
        else:
            copy[: len(kept), : kept.shape[1]] = kept
        copies.append(copy)
    made: T = fields._make(copies)
    return made


def at_least(needed: int, size: int) -> int:
    """Return `size`, doubled until it is at least `needed`."""
    while size < needed:
        size *= 2
    return size
