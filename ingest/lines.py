"""Text files a block at a time: lines as an Arrow array, and their fields as columns.

A row is one line, so that its number is the line's in the file and a damaged row damages no other. A line break inside
quotes is not read: both lines are rejected.
"""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from botify.ingest.dataset import DatasetError
from botify.ingest.inputs import Member, Source

MAX_LINE_BYTES = 256 * 1024 * 1024

Rejected = tuple[int, str, str]  # row number, reason and text of a row that is not imported


class Rows(NamedTuple):
    """Rows of one file, as the file has them."""

    file: str
    numbers: NDArray[np.int64]  # the row's number in the file, from 1; a header is row 1
    # what a column is for (`user`, `item`, `time`, ...) to its values, one a row; texts, or what Parquet has
    fields: Mapping[str, pa.Array]
    # returns the text of the rows at these places, to be kept where they are rejected
    raw: Callable[[NDArray[np.int64]], list[str]]
    broken: Sequence[Rejected] = ()  # rows that have no fields
    about_items: bool = False  # whether they describe items, and are no events


class Block(NamedTuple):
    """Some lines, without those that are blank or no text."""

    numbers: NDArray[np.int64]
    lines: pa.StringArray
    broken: list[Rejected]


def iter_blocks(source: Source, member: Member, encoding: str = "utf-8") -> Iterator[Block]:
    """Yield the lines of a file; raises `DatasetError` if one is longer than `MAX_LINE_BYTES`: the file is no text."""
    with member.open() as stream:
        rest, number = b"", 1
        while data := stream.read(source.block_bytes):
            rest += data
            cut = rest.rfind(b"\n") + 1
            if cut:
                block = _block(rest[:cut], number, encoding)
                number += rest.count(b"\n", 0, cut)
                rest = rest[cut:]
                yield block
            elif len(rest) > MAX_LINE_BYTES:
                raise DatasetError(f"{member.name}: line {number} has more than {MAX_LINE_BYTES:,} bytes; is it text?")
        if rest:
            yield _block(rest, number, encoding)


def _block(data: bytes, first: int, encoding: str) -> Block:
    if first == 1:
        data = data.removeprefix(b"\xef\xbb\xbf")
    broken: list[Rejected] = []
    if encoding != "utf-8":
        data = data.decode(encoding).encode()
    elif not _is_utf8(data):
        data = b"".join(_without_bad_lines(data, first, broken))
    ends = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord("\n")) + 1
    if not len(ends) or ends[-1] != len(data):
        ends = np.append(ends, len(data))
    offsets = np.concatenate([[0], ends]).astype(np.int32)
    lines = pa.StringArray.from_buffers(len(ends), pa.py_buffer(offsets), pa.py_buffer(data))
    lines = pc.utf8_rtrim(lines, "\r\n")
    filled = pc.not_equal(lines, "")
    numbers = np.arange(first, first + len(lines), dtype=np.int64)
    if not pc.all(filled).as_py():
        numbers, lines = numbers[filled.to_numpy(zero_copy_only=False)], lines.filter(filled)
    return Block(numbers, lines, broken)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_bad_lines(data: bytes, first: int, broken: list[Rejected]) -> Iterator[bytes]:
    """Yield the lines, blank where they are not UTF-8, so that those after them keep their numbers."""
    for number, line in enumerate(data.split(b"\n"), start=first):
        if _is_utf8(line):
            yield line + b"\n"
        else:
            broken.append((number, "not UTF-8", line.decode(errors="replace")))
            yield b"\n"


class Table(NamedTuple):
    """How a text file holds a table."""

    delimiter: str
    names: Sequence[str] | None = None  # of its columns; None where the first line has them
    quoted: bool = False  # whether a field may stand in double quotes
    encoding: str = "utf-8"


ChooseColumns = Callable[[Sequence[str]], Mapping[str, int]]  # column names -> role -> place


def places_of(file: str, columns: Mapping[str, str], names: Sequence[str]) -> dict[str, int]:
    """Return the places of columns by their names; raises `DatasetError` if one is not there."""
    for role, column in columns.items():
        if column not in names:
            raise DatasetError(f"{file} has no column {column!r} for {role}; it has {', '.join(map(repr, names))}")
    return {role: list(names).index(column) for role, column in columns.items()}


def iter_table(
    source: Source, member: Member, table: Table, choose: ChooseColumns, *, about_items: bool = False
) -> Iterator[Rows]:
    """Yield the rows of a delimited file; raises `DatasetError` as `choose`, where a column is missing."""
    names, columns = table.names, choose(table.names) if table.names else {}
    for block in iter_blocks(source, member, table.encoding):
        body = block
        if names is None and len(block.lines):
            names = header_of(block.lines[0].as_py(), table)
            columns = choose(names)
            body = Block(block.numbers[1:], block.lines[1:], block.broken)
        if names is not None:
            yield _rows(member.name, body, table, len(names), columns, about_items=about_items)


def header_of(line: str, table: Table) -> list[str]:
    """Return the names that a header has."""
    return next(csv.reader([line], delimiter=table.delimiter)) if table.quoted else line.split(table.delimiter)


def _rows(file: str, block: Block, table: Table, width: int, columns: Mapping[str, int], *, about_items: bool) -> Rows:
    parts = _fields_of(block.lines, table)
    widths = pc.fill_null(pc.list_value_length(parts), 0).to_numpy()
    good = np.flatnonzero(widths == width)
    starts = parts.offsets.to_numpy()[:-1][good]
    fields = {role: parts.values.take(pa.array(starts + column)) for role, column in columns.items()}
    bad = np.flatnonzero(widths != width)
    broken = [
        (number, f"not {width} columns" if count else "quotes are not closed", text)
        for number, count, text in zip(
            block.numbers[bad].tolist(), widths[bad].tolist(), block.lines.take(pa.array(bad)).to_pylist(), strict=True
        )
    ]

    def raw(places: Any) -> list[str]:
        return list(block.lines.take(pa.array(good[places])).to_pylist())

    return Rows(file, block.numbers[good], fields, raw, sorted([*block.broken, *broken]), about_items)


def _fields_of(lines: pa.StringArray, table: Table) -> pa.ListArray:
    """Return the fields of each line; null where quotes do not close."""
    if not table.quoted or not pc.any(quotes := pc.match_substring(lines, '"')).as_py():
        return pc.split_pattern(lines, table.delimiter)
    plain = pc.split_pattern(lines.filter(pc.invert(quotes)), table.delimiter)
    quoted = [_fields_in_quotes(line, table.delimiter) for line in lines.filter(quotes).to_pylist()]
    both = pa.concat_arrays([plain, pa.array(quoted, plain.type)])
    places = np.argsort(quotes.to_numpy(zero_copy_only=False), kind="stable")  # plain lines first, as in `both`
    return both.take(pa.array(np.argsort(places)))


def _fields_in_quotes(line: str, delimiter: str) -> list[str] | None:
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except (csv.Error, StopIteration):
        return None
