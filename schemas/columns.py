"""Read many Avro records of one schema together, one column after the other.

fastavro reads a record field by field, for about 0.3 µs each. Here numpy reads the first field of all records, then the
second, with one cursor a record. Records that it does not support are left to fastavro: text beyond ASCII, numbers of
ten bytes, maps in several blocks, arrays, nested records, an older schema, and bytes that are no record.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any, Self

import fastavro
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MAX_ENTRIES = 16
"""Largest number of entries of a map that is read here."""

_LAST_SHIFT = 56  # a ninth byte still fits into 64 bits, sign and all
_PADDING = 16  # more than a field reads beyond a record's end before that is detected


class Cursors:
    """The read position of each record.

    Attributes
    ----------
    raw : bytes
        All records, one after the other.
    text : str
        The same, each byte a character.
    at, end : ndarray of int64, shape (n,)
        The next byte of each record, and the first after it.
    good : ndarray of bool, shape (n,)
        Whether the record could be read so far. The cursor of a bad record stays within it and has no meaning.
    """

    def __init__(self, raw: bytes, at: Ints, end: Ints) -> None:
        self.raw = raw
        self.text = raw.decode("latin-1")
        self.at = at
        self.end = end
        self.good = np.ones(len(at), dtype=np.bool_)
        self._bytes = np.frombuffer(raw + bytes(_PADDING), dtype=np.uint8)

    def of(self, rows: NDArray[np.intp]) -> Self:
        """Return cursors of some records; `put` writes them back."""
        some = type(self).__new__(type(self))
        some.__dict__.update(self.__dict__)
        some.at, some.end, some.good = self.at[rows], self.end[rows], self.good[rows]
        return some

    def put(self, rows: NDArray[np.intp], some: Cursors) -> None:
        """Continue where the cursors of some records have stopped."""
        self.at, self.good = self.at.copy(), self.good.copy()
        self.at[rows], self.good[rows] = some.at, some.good

    def take(self, count: int) -> NDArray[np.uint8]:
        """Read bytes of each record, shape (n, count)."""
        taken: NDArray[np.uint8] = self._bytes[self.at[:, None] + np.arange(count)]
        self._move_to(self.at + count)
        return taken

    def longs(self) -> Ints:
        """Read a number of each record: seven bits a byte, lowest first, the sign in the lowest bit (zigzag)."""
        at = self.at.copy()
        byte = self._bytes[at].astype(np.int64)
        at += 1
        value = byte & 0x7F
        more = np.flatnonzero(byte > 0x7F)
        shift = 7
        while len(more) and shift <= _LAST_SHIFT:
            byte = self._bytes[at[more]].astype(np.int64)
            at[more] += 1
            value[more] |= (byte & 0x7F) << shift
            more = more[byte > 0x7F]
            shift += 7
        self.good[more] = False
        self._move_to(at)
        return (value >> 1) ^ -(value & 1)

    def skip_counted(self) -> tuple[Ints, Ints]:
        """Skip a text or bytes of each record, and return their begins and ends."""
        length = self.longs()
        begin = self.at
        self.good &= (length >= 0) & (length <= self.end - begin)
        self._move_to(np.where(self.good, begin + length, self.end))
        return begin, self.at

    def _move_to(self, at: Ints) -> None:
        self.good &= at <= self.end
        self.at = np.minimum(at, self.end)


Read = Callable[[Cursors], list[Any]]
"""Reads a field of every record; values of bad records have no meaning."""


class ColumnReader:
    """Reads the records of one schema.

    Parameters
    ----------
    header : bytes
        First bytes of each value.
    schema : dict
        A record's, parsed, of strings, bytes, numbers, booleans, maps of strings, arrays, records, and unions of
        null with one of these.

    Raises
    ------
    NotImplementedError
        A field is of another type.
    """

    def __init__(self, header: bytes, schema: Any) -> None:
        self._header = np.frombuffer(header, dtype=np.uint8)
        self._fields = [_reader_of(field["type"]) for field in schema["fields"]]

    def read(self, values: Sequence[bytes]) -> tuple[list[list[Any]], NDArray[np.bool_]]:
        """Read all records.

        Returns
        -------
        columns : list of lists
            A list a field, in the schema's order, with a value a record.
        good : ndarray of bool, shape (n,)
            Whether the values are what fastavro would read; bad records must be read by fastavro.
        """
        lengths = np.fromiter(map(len, values), dtype=np.int64, count=len(values))
        ends = np.cumsum(lengths)
        cursors = Cursors(b"".join(values), ends - lengths, ends)
        cursors.good &= (cursors.take(len(self._header)) == self._header).all(axis=1)
        columns = [read(cursors) for read in self._fields]
        return columns, cursors.good & (cursors.at == cursors.end)


def _reader_of(schema: Any) -> Read:
    match schema:
        case "string":
            return _read_texts
        case "bytes":
            return _read_bytes
        case "int" | "long":
            return _read_longs
        case "double":
            return _read_doubles
        case "boolean":
            return _read_booleans
        case ["null", other]:
            return _optional(_reader_of(other))
        case {"type": "map", "values": "string"}:
            return _read_maps
        case {"type": "array" | "record"}:
            return _read_nothing
    raise NotImplementedError(f"no column of {schema}")


def _read_nothing(cursors: Cursors) -> list[Any]:
    """Leave the records to fastavro: few have such a value."""
    cursors.good[:] = False
    return [None] * len(cursors.at)


def _read_texts(cursors: Cursors) -> list[Any]:
    begins, ends = cursors.skip_counted()
    text = cursors.text
    texts = [text[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    if not "".join(texts).isascii():
        cursors.good &= np.array([one.isascii() for one in texts])
    return texts


def _read_bytes(cursors: Cursors) -> list[Any]:
    begins, ends = cursors.skip_counted()
    raw = cursors.raw
    return [raw[begin:end] for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]


def _read_longs(cursors: Cursors) -> list[Any]:
    return list(cursors.longs().tolist())


def _read_doubles(cursors: Cursors) -> list[Any]:
    return list(cursors.take(8).view("<f8")[:, 0].tolist())


def _read_booleans(cursors: Cursors) -> list[Any]:
    byte = cursors.take(1)[:, 0]
    cursors.good &= byte <= 1
    return list((byte == 1).tolist())


def _optional(read: Read) -> Read:
    def read_some(cursors: Cursors) -> list[Any]:
        branch = cursors.longs()
        cursors.good &= (branch == 0) | (branch == 1)
        rows = np.flatnonzero(branch == 1)
        some = cursors.of(rows)
        found = read(some)
        cursors.put(rows, some)
        if len(rows) == len(branch):
            return found
        values: list[Any] = [None] * len(branch)
        for row, value in zip(rows.tolist(), found, strict=True):
            values[row] = value
        return values

    return read_some


def _read_maps(cursors: Cursors) -> list[Any]:
    """Read maps of strings; equal maps are one object, since there are few different ones."""
    begins = cursors.at
    count = cursors.longs()
    cursors.good &= (count >= 0) & (count <= MAX_ENTRIES)
    for entry in range(min(int(count.max(initial=0)), MAX_ENTRIES)):
        rows = np.flatnonzero(count > entry)
        some = cursors.of(rows)
        some.skip_counted()
        some.skip_counted()
        cursors.put(rows, some)
    rows = np.flatnonzero(count != 0)
    some = cursors.of(rows)
    some.good &= some.longs() == 0  # no further block
    cursors.put(rows, some)
    known: dict[bytes, Any] = {}
    maps: list[Any] = []
    raw = cursors.raw
    for row, (begin, end) in enumerate(zip(begins.tolist(), cursors.at.tolist(), strict=True)):
        written = raw[begin:end]
        if (value := known.get(written)) is None:
            cursors.good[row] &= written.isascii()
            if cursors.good[row]:
                value = known[written] = fastavro.schemaless_reader(io.BytesIO(written), _MAP, None)
        maps.append(value)
    return maps


_MAP = fastavro.parse_schema({"type": "map", "values": "string"})
