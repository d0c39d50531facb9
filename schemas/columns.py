"""Read and write many Avro records of one schema together, one column after the other.

fastavro reads a record field by field, for about 0.3 µs each. Here numpy reads the first field of all records, then the
second, with one cursor a record. Records that it does not support are left to fastavro: text beyond ASCII, numbers of
ten bytes, maps in several blocks, arrays, nested records, an older schema, and bytes that are no record.

To write, fastavro takes a dictionary a record and looks at the type of each value. Here the types of a whole column are
looked at once, and each field becomes a list of bytes, which are joined to records of the same bytes. Records with a
value that is not plainly of its type are left to fastavro: a number of numpy's, an array or a record that is not null.
"""

import io
import struct
from collections.abc import Callable, Sequence
from typing import Any, Self

import fastavro
import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

MAX_ENTRIES = 16  # largest number of entries of a map that is read here

_LAST_SHIFT = 56  # a ninth byte still fits into 64 bits, sign and all
_PADDING = 16  # more than a field reads beyond a record's end before that is detected


class Cursors:
    """The read position of each record: `at`, up to `end`, shape (n,), in `raw`, all records one after the other.

    `text` is the same, each byte a character. `good` says whether the record could be read so far; the cursor of a bad
    record stays within it and has no meaning.
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

    def put(self, rows: NDArray[np.intp], some: "Cursors") -> None:
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


Read = Callable[[Cursors], list[Any]]  # reads a field of every record; values of bad records have no meaning


class ColumnReader:
    """Reads the records of one schema, whose values begin with `header`; raises `NotImplementedError` for some types.

    Fields may be strings, bytes, numbers, booleans, maps of strings, arrays, records, and unions of null with these.
    """

    def __init__(self, header: bytes, schema: Any) -> None:
        self._header = np.frombuffer(header, dtype=np.uint8)
        self._fields = [_reader_of(field["type"]) for field in schema["fields"]]

    def read(self, values: Sequence[bytes]) -> tuple[list[list[Any]], NDArray[np.bool_]]:
        """Return a list for each field, in the schema's order, and which rows are what fastavro would read."""
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
            return lambda cursors: list(cursors.longs().tolist())
        case "double":
            return lambda cursors: list(cursors.take(8).view("<f8")[:, 0].tolist())
        case "boolean":
            return _read_booleans
        case ["null", other]:
            return _optional_reader(_reader_of(other))
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


def _read_booleans(cursors: Cursors) -> list[Any]:
    byte = cursors.take(1)[:, 0]
    cursors.good &= byte <= 1
    return list((byte == 1).tolist())


def _optional_reader(read: Read) -> Read:
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


_DOUBLE = struct.Struct("<d")
_LOW_BITS = 14
_LOW = (1 << _LOW_BITS) - 1
_LONGEST = 2**63
_BOUNDS = {"int": 2**31, "long": _LONGEST}
_NULL, _VALUE = b"\x00", b"\x02"  # which branch of a union follows: the first, or the second


def _zigzag_bytes(number: int, *, more: bool) -> bytes:
    """Return a number below 2^14 as seven bits a byte, lowest first; with `more`, two bytes that do not end it."""
    low, high = number & 0x7F, number >> 7
    if more:
        return bytes((low | 0x80, high | 0x80))
    return bytes((low,)) if not high else bytes((low | 0x80, high))


_ENDING = [_zigzag_bytes(number, more=False) for number in range(_LOW + 1)]
_CONTINUED = [_zigzag_bytes(number, more=True) for number in range(_LOW + 1)]


def _long(value: int) -> bytes:
    rest = value << 1 ^ value >> 63
    if rest <= _LOW:
        return _ENDING[rest]
    written = _CONTINUED[rest & _LOW]
    rest >>= _LOW_BITS
    while rest > _LOW:
        written += _CONTINUED[rest & _LOW]
        rest >>= _LOW_BITS
    return written + _ENDING[rest]


class NotPlainError(Exception):
    """A column has a value that is left to fastavro."""


Write = Callable[[Sequence[Any]], list[bytes]]
"""Write a field of every record; raise `NotPlainError` if a value is not plainly of the field's type."""


class ColumnWriter:
    r"""Writes records of one schema, of the types that `ColumnReader` knows; each value begins with `header`."""

    def __init__(self, header: bytes, schema: Any) -> None:
        self._header = header
        self._fields = [_writer_of(field["type"]) for field in schema["fields"]]

    def write(self, columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """Return the records of columns in the schema's order; raises `NotPlainError` if fastavro must write them."""
        written = [write(column) for write, column in zip(self._fields, columns, strict=True)]
        return list(map(b"".join, zip([self._header] * len(columns[0]), *written, strict=True)))


def _writer_of(schema: Any) -> Write:
    match schema:
        case "string":
            return _write_texts
        case "bytes":
            return _write_bytes
        case "int" | "long":
            return _longs_writer(_BOUNDS[schema])
        case "double":
            return _write_doubles
        case "boolean":
            return _write_booleans
        case ["null", other]:
            return _optional_writer(_writer_of(other))
        case {"type": "map", "values": "string"}:
            return _write_maps
        case {"type": "array" | "record"}:
            return _write_nothing
    raise NotImplementedError(f"no column of {schema}")


def _require(column: Sequence[Any], kind: type) -> None:
    if set(map(type, column)) - {kind}:
        raise NotPlainError


def _write_nothing(column: Sequence[Any]) -> list[bytes]:
    if column:
        raise NotPlainError
    return []


def _write_texts(column: Sequence[Any]) -> list[bytes]:
    _require(column, str)
    try:
        texts = list(map(str.encode, column))
    except UnicodeEncodeError as error:
        raise NotPlainError from error
    return [_ENDING[len(text) << 1] + text if len(text) <= _LOW >> 1 else _long(len(text)) + text for text in texts]


def _write_bytes(column: Sequence[Any]) -> list[bytes]:
    _require(column, bytes)
    return [_long(len(one)) + one for one in column]


def _longs_writer(bound: int) -> Write:
    def write_longs(column: Sequence[Any]) -> list[bytes]:
        _require(column, int)
        if column and not -bound <= min(column) <= max(column) < bound:
            raise NotPlainError
        return (_longs_of_one_length(column) if len(column) >= NUMPY_FROM else None) or list(map(_long, column))

    return write_longs


NUMPY_FROM = 64  # numbers from which numpy is faster


def _longs_of_one_length(column: Sequence[int]) -> list[bytes] | None:
    """Write numbers that take the same number of bytes, as times of a decade do; return None if they do not."""
    values = np.array(column, dtype=np.int64)
    rest = (values << 1 ^ values >> 63).view(np.uint64)
    size, shortest = (max(1, -(-int(one).bit_length() // 7)) for one in (rest.max(), rest.min()))
    if size != shortest:
        return None
    septets = (rest[:, None] >> np.arange(0, 7 * size, 7, dtype=np.uint64)).astype(np.uint8) & 0x7F
    septets[:, :-1] |= 0x80
    raw = septets.tobytes()
    return [raw[begin : begin + size] for begin in range(0, len(raw), size)]


def _write_doubles(column: Sequence[Any]) -> list[bytes]:
    _require(column, float)
    return list(map(_DOUBLE.pack, column))


def _write_booleans(column: Sequence[Any]) -> list[bytes]:
    _require(column, bool)
    return [b"\x01" if one else b"\x00" for one in column]


def _optional_writer(write: Write) -> Write:
    def write_some(column: Sequence[Any]) -> list[bytes]:
        if None not in column:
            return [_VALUE + one for one in write(column)]
        if not (given := [value for value in column if value is not None]):
            return [_NULL] * len(column)
        some = iter(write(given))
        return [_NULL if value is None else _VALUE + next(some) for value in column]

    return write_some


def _write_maps(column: Sequence[Any]) -> list[bytes]:
    """Write maps of strings; equal ones are written once, since there are few different ones."""
    _require(column, dict)
    if not any(column):
        return [_NULL] * len(column)
    known: dict[Any, bytes] = {}
    written = []
    try:
        for texts in column:
            entries = tuple(texts.items())
            if (one := known.get(entries)) is None:
                one = known[entries] = _map(entries)
            written.append(one)
    except TypeError as error:  # a value that cannot be a key is no string
        raise NotPlainError from error
    return written


def _map(entries: Sequence[tuple[Any, Any]]) -> bytes:
    if not entries:
        return _NULL
    texts = _write_texts([text for entry in entries for text in entry])
    return _long(len(entries)) + b"".join(texts) + _NULL
