"""Named arrays and texts in one piece of bytes: a line of JSON that says what follows, then the buffers."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from botify.core.keyed_random import Keys, uniform
from botify.core.throttle import throttle

Arrays = Mapping[str, NDArray[Any]]
S = TypeVar("S", bound=np.generic)

COMPRESSED_BYTES = 64 * 1024  # from here on bytes are compressed where they are stored
LAYOUT_BYTES = 1024  # most bytes of the line of JSON without what it says about the arrays


def pack(about: Mapping[str, Any], arrays: Arrays) -> bytes:
    """Return the bytes of arrays of numbers, and of what JSON can say about them; equal values give equal bytes."""
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    layout = [[name, array.dtype.str, list(array.shape)] for name, array in contiguous.items()]
    header = json.dumps({"about": about, "arrays": layout}, separators=(",", ":")).encode()
    return b"".join([header, b"\n", *(array.data for array in contiguous.values())])  # the only copy


def unpack(packed: bytes) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `pack` wrote, as read-only arrays that share the bytes' memory; raises `ValueError` for other bytes."""
    at = packed.find(b"\n") + 1
    if not at:
        raise ValueError(f"{len(packed)} bytes without a header are no packed arrays")
    described, arrays = json.loads(packed[:at]), {}
    for name, dtype, shape in described["arrays"]:
        count = int(np.prod(shape, dtype=np.int64))
        arrays[name] = np.frombuffer(packed, dtype=np.dtype(dtype), count=count, offset=at).reshape(shape)
        at += arrays[name].nbytes
    if at != len(packed):
        raise ValueError(f"packed arrays of {at} bytes are followed by {len(packed) - at} more")
    return described["about"], arrays


def unpack_to_merge(packed: bytes, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read the snapshot of a shard, as `unpack` does; raises `ValueError` also if an array is missing."""
    about, arrays = unpack(packed)
    if missing := sorted(set(names) - arrays.keys()):
        raise ValueError(f"a snapshot of {len(packed)} bytes without {', '.join(missing)} was not made to be merged")
    return about, arrays


def compressed(packed: bytes) -> bytes:
    """Return large bytes compressed: tables have room for more than most of their rows need."""
    return zlib.compress(packed, 1) if len(packed) > COMPRESSED_BYTES else packed


def expanded(stored: bytes) -> bytes:
    """Return what `pack` wrote, which begins with a brace, unlike compressed bytes; raises ValueError on neither."""
    if stored[:1] == b"{":
        return stored
    try:
        return zlib.decompress(stored)
    except zlib.error as error:
        raise ValueError(f"the bytes are neither packed nor compressed: {error}") from error


AT_ONCE = 1 << 12  # rows of a large table that are computed together, so that what is needed meanwhile stays small


def blocks(n: int, size: int = AT_ONCE) -> Iterator[slice]:
    """Cut n rows into slices; a thread of low priority rests between them, see `botify.core.throttle`."""
    for at in range(0, n, size):
        throttle()
        yield slice(at, min(at + size, n))


class Growing(Generic[S]):
    """An array with room at its end, so that adding rows does not copy all; the first rows are copied.

    Examples
    --------
    >>> numbers = Growing(np.array([7]))
    >>> numbers.extend([8, 9])
    >>> numbers.rows.tolist(), len(numbers)
    ([7, 8, 9], 3)
    """

    def __init__(self, rows: NDArray[S]) -> None:
        self._room = rows.copy()
        self._used = len(rows)

    def __len__(self) -> int:
        return self._used

    @property
    def rows(self) -> NDArray[S]:
        """All rows; writing to them changes the array."""
        return self._room[: self._used]

    def extend(self, more: ArrayLike) -> None:
        added = np.asarray(more, dtype=self._room.dtype)
        end = self._used + len(added)
        if end > len(self._room):
            room = np.zeros((max(1024, 2 * end), *self._room.shape[1:]), dtype=self._room.dtype)
            room[: self._used] = self.rows
            self._room = room
        self._room[self._used : end] = added
        self._used = end


K = TypeVar("K", bound=Hashable)


class Table(Generic[K]):
    """Rows of float32 by name; `names` is in the order of the rows.

    `first` makes the rows of new names, shape (n, width), from the names alone.

    Examples
    --------
    >>> table = Table[str](2, lambda names: np.zeros((len(names), 2), dtype=np.float32))
    >>> table.rows_of(["x", "y", "x"]).tolist(), table.values.shape
    ([0, 1, 0], (2, 2))
    """

    def __init__(self, width: int, first: Callable[[Sequence[K]], NDArray[np.float32]]) -> None:
        self.names: list[K] = []
        self._first = first
        self._rows: dict[K, int] = {}
        self._values = Growing(np.zeros((0, width), dtype=np.float32))

    @property
    def values(self) -> NDArray[np.float32]:
        """The rows, shape (number of names, width); writing to it changes the table."""
        return self._values.rows

    def learned(self) -> NDArray[np.float32]:
        """Return how far each row is from what it was at first, shape as `values`."""
        return self.values - self._first(self.names)

    def rows_of(self, names: Iterable[K]) -> NDArray[np.int64]:
        """Return the row of each name; a new name gets the next."""
        rows, known = self._rows, len(self.names)
        asked = list(names)
        found = list(map(rows.get, asked))
        if None in found:
            new = [name for name in dict.fromkeys(asked) if name not in rows]
            self.names += new
            rows.update(zip(new, range(known, len(self.names)), strict=True))
            self._values.extend(self._first(new))
            found = [rows[name] for name in asked]
        return np.array(found, dtype=np.int64)

    def keep(self, rows: NDArray[np.int64]) -> None:
        """Leave out all rows but some, which are given in rising order."""
        self.restore([self.names[row] for row in rows.tolist()], self.values[rows])

    def restore(self, names: Iterable[K], values: NDArray[np.float32]) -> None:
        """Put back what was saved; what the table had is gone."""
        self.names = list(names)
        self._rows = {name: row for row, name in enumerate(self.names)}
        self._values = Growing(values)


class RowTable:
    """Rows of ids, -1 for a free one; a freed row is given to a later id, the lowest first.

    Examples
    --------
    >>> table = RowTable()
    >>> table.rows_for(np.array([7, 9, 7])).tolist()
    [0, 1, 0]
    >>> table.free(np.array([0]))
    >>> table.rows_for(np.array([5])).tolist(), table.rows_of(np.array([7, 9])).tolist(), len(table)
    ([0], [-1, 1], 2)
    """

    def __init__(self, ids: NDArray[np.int64] | None = None) -> None:
        self._ids = Growing(np.zeros(0, dtype=np.int64) if ids is None else ids.astype(np.int64))
        named = list(enumerate(self.ids.tolist()))
        self._rows = {name: row for row, name in named if name >= 0}
        self._free = [row for row, name in named if name < 0][::-1]

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def places(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> NDArray[np.int64]:
        """Id of each row; -1 for a free one."""
        return self._ids.rows

    def rows_of(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id; -1 for one that is not there."""
        return np.array([self._rows.get(name, -1) for name in ids.tolist()], dtype=np.int64)

    def rows_for(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row of each id; a new id gets one."""
        asked = ids.tolist()
        found = list(map(self._rows.get, asked))
        if None in found:
            for name in asked:
                if name not in self._rows:
                    self._rows[name] = self._take(name)
            found = [self._rows[name] for name in asked]
        return np.array(found, dtype=np.int64)

    def free(self, rows: NDArray[np.int64]) -> None:
        named = np.unique(rows[self.ids[rows] >= 0])
        for name in self.ids[named].tolist():
            del self._rows[name]
        self.ids[named] = -1
        self._free = sorted([*self._free, *named.tolist()], reverse=True)

    def _take(self, name: int) -> int:
        if not self._free:
            self._ids.extend([name])
            return self.places - 1
        row = self._free.pop()
        self.ids[row] = name
        return row


def all_but(worth: NDArray[Any], kept: int) -> NDArray[np.bool_]:
    """Mark all rows but those worth most; of equals the earlier one stays.

    Examples
    --------
    >>> all_but(np.array([3.0, 1.0, 2.0, 1.0]), 3).tolist()
    [False, False, False, True]
    """
    left: NDArray[np.bool_] = np.ones(len(worth), dtype=np.bool_)
    left[np.argsort(-worth, kind="stable")[:kept]] = False
    return left


def small_noise(keys: Keys, width: int, deviation: float) -> NDArray[np.float32]:
    """Return rows of independent uniform numbers around 0, a function of the keys, shape (len(keys), width)."""
    drawn = uniform(keys[:, None], np.arange(width))
    noise: NDArray[np.float32] = ((drawn - 0.5) * (12.0**0.5 * deviation)).astype(np.float32)
    return noise


LEAST_EVIDENCE = 1e-9  # of a row of which nothing was learned: of such rows in all shards, the plain mean counts


def mean_by_evidence(
    size: int, rows: Sequence[NDArray[np.int64]], learned: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> NDArray[np.float64]:
    """Return the means of rows that shards have, weighted by what they have learned of them."""
    total, weight = np.zeros((size, learned[0][0].shape[1])), np.zeros((size, 1))
    for at, (values, evidence) in zip(rows, learned, strict=True):
        share = np.maximum(evidence.astype(np.float64), LEAST_EVIDENCE)[:, None]
        total[at] += share * values
        weight[at] += share
    return total / weight
