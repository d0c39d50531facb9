"""Write many Avro records of one schema together, one column after the other.

fastavro takes a dictionary a record, and looks at the type of each value. Here the types of a whole column are looked
at once, and each field becomes a list of bytes, which are joined to records. The bytes are the same. Records with a
value that is not plainly of its type are left to fastavro: a number of numpy's, an array or a record that is not null.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any

_DOUBLE = struct.Struct("<d")
_LOW_BITS = 14
_LOW = (1 << _LOW_BITS) - 1
_LONGEST = 2**63
_BOUNDS = {"int": 2**31, "long": _LONGEST}
_NULL, _VALUE = b"\x00", b"\x02"
"""Which branch of a union follows: the first, or the second."""


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
    r"""Writes records of one schema.

    Parameters
    ----------
    header : bytes
        First bytes of each value.
    schema : dict
        A record's, parsed, of the types that `ColumnReader` knows.

    Examples
    --------
    >>> fields = [{"name": "a", "type": "long"}, {"name": "b", "type": ["null", "string"]}]
    >>> ColumnWriter(b"!", {"type": "record", "fields": fields}).write([[1, -65], [None, "x"]])
    [b'!\x02\x00', b'!\x81\x01\x02\x02x']
    """

    def __init__(self, header: bytes, schema: Any) -> None:
        self._header = header
        self._fields = [_writer_of(field["type"]) for field in schema["fields"]]

    def write(self, columns: Sequence[Sequence[Any]]) -> list[bytes]:
        """Return the records in the wire format.

        Parameters
        ----------
        columns : sequence of sequences
            A sequence a field, in the schema's order, with a value a record.

        Raises
        ------
        NotPlainError
            fastavro must write the records.
        """
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
            return _optional(_writer_of(other))
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
    return [_long(len(text)) + text for text in texts]


def _write_bytes(column: Sequence[Any]) -> list[bytes]:
    _require(column, bytes)
    return [_long(len(one)) + one for one in column]


def _longs_writer(bound: int) -> Write:
    def write_longs(column: Sequence[Any]) -> list[bytes]:
        _require(column, int)
        if column and not -bound <= min(column) <= max(column) < bound:
            raise NotPlainError
        return list(map(_long, column))

    return write_longs


def _write_doubles(column: Sequence[Any]) -> list[bytes]:
    _require(column, float)
    return list(map(_DOUBLE.pack, column))


def _write_booleans(column: Sequence[Any]) -> list[bytes]:
    _require(column, bool)
    return [b"\x01" if one else b"\x00" for one in column]


def _optional(write: Write) -> Write:
    def write_some(column: Sequence[Any]) -> list[bytes]:
        if None not in column:
            return [_VALUE + one for one in write(column)]
        some = iter(write([value for value in column if value is not None]))
        return [_NULL if value is None else _VALUE + next(some) for value in column]

    return write_some


def _write_maps(column: Sequence[Any]) -> list[bytes]:
    """Write maps of strings; equal ones are written once, since there are few different ones."""
    _require(column, dict)
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
