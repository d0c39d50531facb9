"""Increments of models: what turns one body into the next, as copies from the old body and new bytes.

A reader needs no knowledge of a model to apply one. The writer uses what a body says about its arrays, if it begins
with a line of JSON as `streams.learner.models.tables.pack` writes it: rows of an array are compared with rows of the
array of the same name, so that an array may grow without moving all that follows. Arrays with as many rows as the
array `counts` adds up to are lists of variable length, one for each of its rows, and are compared list by list.

As bytes::

    "BMD1" | size of the new body u64 | pieces n u32 | bytes of the table u32 | table | new bytes

The table is compressed by zlib: three columns of n numbers (i64, the lowest bytes of all numbers first). A piece is a
number of bytes to leave out of the old body, of bytes to copy from it, and of new bytes to add.
"""

from __future__ import annotations

import json
import math
import struct
import zlib
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from botify.core.files import Body

Ints = NDArray[np.int64]
Raw = NDArray[np.uint8]

_HEAD = struct.Struct("<4sQII")
_MAGIC = b"BMD1"
_BLOCK_BYTES = 1 << 22
"""Compared at a time, so that this needs little memory."""
_NEW = -1


class _Array(NamedTuple):
    """Where an array lies in a body."""

    start: int
    rows: int
    row_bytes: int
    dtype: np.dtype[Any]

    def of(self, body: Raw) -> Raw:
        """Return its rows as bytes, shape (rows, row_bytes)."""
        end = self.start + self.rows * self.row_bytes
        return body[self.start : end].reshape(self.rows, self.row_bytes)


class _Runs(NamedTuple):
    """Runs of bytes of the new body, in order: where each begins in the old body, or `_NEW`; and its length."""

    sources: Ints
    lengths: Ints

    def in_bytes(self, of: _Array) -> _Runs:
        """Return runs of rows of an array of the old body as runs of its bytes."""
        is_new = self.sources == _NEW
        return _Runs(np.where(is_new, _NEW, of.start + self.sources * of.row_bytes), self.lengths * of.row_bytes)


def delta_of(old: Body, new: Body) -> bytes:
    """Return what `apply_delta` needs to make the new body of the old one.

    Examples
    --------
    >>> import io
    >>> old, new = bytes(1_000), bytes(500) + b"x" + bytes(499)
    >>> delta, made = delta_of(old, new), io.BytesIO()
    >>> apply_delta(old, delta, made)
    >>> made.getvalue() == new, len(delta) < 100
    (True, True)
    """
    runs = _joined(list(_runs(old, new)))
    skipped, copied, added = _pieces(runs)
    columns = np.stack([skipped, copied, added]).astype("<i8")
    table = zlib.compress(columns.view(np.uint8).reshape(-1, 8).T.tobytes(), 1)
    ends = np.cumsum(runs.lengths)
    is_new = runs.sources == _NEW
    bounds = zip((ends - runs.lengths)[is_new].tolist(), ends[is_new].tolist(), strict=True)
    with memoryview(new) as view:
        added_bytes = b"".join([view[begin:end] for begin, end in bounds])
    return _HEAD.pack(_MAGIC, len(new), len(skipped), len(table)) + table + added_bytes


def apply_delta(old: Body, delta: bytes, out: IO[bytes]) -> None:
    """Write the new body.

    Raises
    ------
    ValueError
        The bytes are not an increment, or one of another body.
    """
    if len(delta) < _HEAD.size or (head := _HEAD.unpack_from(delta))[0] != _MAGIC:
        raise ValueError(f"{len(delta)} bytes that begin with {delta[:4]!r} are no increment")
    _, size, pieces, table_bytes = head
    at = _HEAD.size + table_bytes
    try:
        planes = np.frombuffer(zlib.decompress(delta[_HEAD.size : at]), np.uint8).reshape(8, 3 * pieces)
    except (zlib.error, ValueError) as error:
        raise ValueError(f"the table of an increment cannot be read: {error}") from error
    skipped, copied, added = np.ascontiguousarray(planes.T).view("<i8").reshape(3, pieces)
    begins = np.cumsum(skipped + copied) - copied
    is_whole = at + int(added.sum()) == len(delta) and int((copied + added).sum()) == size
    if not is_whole or min(copied.min(initial=0), added.min(initial=0), begins.min(initial=0)) < 0:
        raise ValueError(f"an increment of {len(delta)} bytes does not make a body of {size}")
    if pieces and int((begins + copied).max()) > len(old):
        raise ValueError(f"an increment copies from a longer body than the {len(old)} bytes that it is applied to")
    with memoryview(old) as source, memoryview(delta) as fresh:
        for begin, length, more in zip(begins.tolist(), copied.tolist(), added.tolist(), strict=True):
            out.write(source[begin : begin + length])
            out.write(fresh[at : at + more])
            at += more


def _pieces(runs: _Runs) -> tuple[Ints, Ints, Ints]:
    """Return how many bytes to skip in the old body, to copy and to add; every copy begins a piece."""
    is_copy = runs.sources != _NEW
    first = np.flatnonzero(is_copy | (np.arange(len(is_copy)) == 0))
    copied = np.where(is_copy[first], runs.lengths[first], 0)
    lengths = np.append(np.cumsum(np.where(is_copy, 0, runs.lengths)), 0)
    before = np.append(0, lengths[:-1])
    until = np.append(first[1:], len(is_copy))
    added = before[until] - before[first] if len(first) else first
    begins = np.where(is_copy[first], runs.sources[first], 0)
    skipped = begins - np.append(0, (begins + copied)[:-1])[: len(begins)]
    return skipped, copied, added


def _joined(parts: list[_Runs]) -> _Runs:
    """Return all runs in one, neighbours that continue each other as one run."""
    sources = np.concatenate([part.sources for part in parts] or [np.zeros(0, dtype=np.int64)])
    lengths = np.concatenate([part.lengths for part in parts] or [np.zeros(0, dtype=np.int64)])
    some = lengths > 0
    sources, lengths = sources[some], lengths[some]
    if not len(sources):
        return _Runs(sources, lengths)
    is_new = sources == _NEW
    goes_on = (sources[1:] == sources[:-1] + lengths[:-1]) & ~is_new[1:] & ~is_new[:-1] | is_new[1:] & is_new[:-1]
    first = np.flatnonzero(np.append(True, ~goes_on))
    return _Runs(sources[first], np.add.reduceat(lengths, first))


def _runs(old: Body, new: Body) -> Iterator[_Runs]:
    before, after = _layout(old), _layout(new)
    bytes_before, bytes_after = np.frombuffer(old, np.uint8), np.frombuffer(new, np.uint8)
    if before is None or after is None:
        yield from _compared(bytes_before, bytes_after)
        return
    old_counts, new_counts = _counts(bytes_before, before), _counts(bytes_after, after)
    start = 0
    for name, array in after.items():
        if start < array.start:
            yield _new(array.start - start)
        start = array.start + array.rows * array.row_bytes
        known = before.get(name)
        if known is None or known.row_bytes != array.row_bytes or not array.row_bytes:
            yield _new(array.rows * array.row_bytes)
            continue
        rows = known.of(bytes_before), array.of(bytes_after)
        if int(old_counts.sum()) == len(rows[0]) and int(new_counts.sum()) == len(rows[1]):
            found = _lists_compared(*rows, old_counts, new_counts)
        else:
            found = _compared(*rows)
        yield from (run.in_bytes(known) for run in found)


def _layout(body: Body) -> dict[str, _Array] | None:
    """Return the arrays of a packed body by name; None if it is not one."""
    if body[:1] != b"{" or (at := body.find(b"\n")) < 0:
        return None
    arrays, start = {}, at + 1
    try:
        for name, dtype, shape in json.loads(body[:at])["arrays"]:
            row_bytes = np.dtype(dtype).itemsize * math.prod(shape[1:])
            arrays[name] = _Array(start, int(shape[0]), row_bytes, np.dtype(dtype))
            start += arrays[name].rows * row_bytes
    except (ValueError, KeyError, TypeError, IndexError):
        return None
    return arrays if start == len(body) else None


def _counts(body: Raw, layout: dict[str, _Array]) -> Ints:
    """Return the lengths of the lists of a body; none if it has no lists."""
    array = layout.get("counts")
    if array is None or array.dtype.kind not in "iu" or array.row_bytes != array.dtype.itemsize:
        return np.zeros(0, dtype=np.int64)
    return array.of(body).reshape(-1).view(array.dtype).astype(np.int64)


def _compared(old: Raw, new: Raw) -> Iterator[_Runs]:
    """Compare rows at the same place, shape (n, ...)."""
    both = min(len(old), len(new))
    for begin, end in _blocks(both, new):
        yield _runs_of(_differ(old[begin:end], new[begin:end]), np.arange(begin, end))
    yield _new(len(new) - both)


def _lists_compared(old: Raw, new: Raw, old_counts: Ints, new_counts: Ints) -> Iterator[_Runs]:
    """Compare rows at the same place of the same list; `counts` are the lengths of the lists."""
    both = min(len(old_counts), len(new_counts))
    starts = np.cumsum(old_counts) - old_counts
    firsts = np.cumsum(new_counts) - new_counts
    lists_at_once = max(1, _BLOCK_BYTES // max(1, new[:1].nbytes * int(new_counts.max(initial=1))))
    for begin in range(0, both, lists_at_once):
        some = slice(begin, min(begin + lists_at_once, both))
        first, counts = int(firsts[begin]), new_counts[some]
        place = np.arange(int(counts.sum())) - np.repeat(firsts[some] - first, counts)
        sources = np.repeat(starts[some], counts) + place
        is_new = place >= np.repeat(old_counts[some], counts)
        is_new[~is_new] = _differ(old[sources[~is_new]], new[first : first + len(place)][~is_new])
        yield _runs_of(is_new, sources)
    yield _new(int(new_counts[both:].sum()))


def _blocks(rows: int, of: Raw) -> Iterator[tuple[int, int]]:
    size = max(1, _BLOCK_BYTES // max(1, of[:1].nbytes))
    for begin in range(0, rows, size):
        yield begin, min(begin + size, rows)


def _differ(old: Raw, new: Raw) -> NDArray[np.bool_]:
    unequal: NDArray[np.bool_] = np.asarray(old != new)
    return unequal if unequal.ndim == 1 else np.asarray(unequal.any(axis=1))


def _runs_of(is_new: NDArray[np.bool_], sources: Ints) -> _Runs:
    """Return runs of rows that are new, or lie one after another in the old array."""
    if not len(is_new):
        return _new(0)
    sources = np.where(is_new, _NEW, sources)
    goes_on = (sources[1:] == sources[:-1] + 1) & ~is_new[1:] & ~is_new[:-1] | is_new[1:] & is_new[:-1]
    first = np.flatnonzero(np.append(True, ~goes_on))
    return _Runs(sources[first], np.diff(np.append(first, len(is_new))))


def _new(length: int) -> _Runs:
    return _Runs(np.array([_NEW]), np.array([length]))
