"""The files of a source, wherever they lie (in a folder, an archive, or both), and text files a block at a time.

Lines are an Arrow array, and their fields columns. A row is one line, so that its number is the line's in the file and
a damaged row damages no other. A line break inside quotes is not read: both lines are rejected.
"""

import csv
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from botify.ingest.dataset import DatasetError

BLOCK_BYTES = 8 * 1024 * 1024  # how much of a file is read at a time
ZIPS = (".zip", ".whl")
TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
UNREADABLE = (OSError, EOFError, zlib.error, zipfile.BadZipFile, tarfile.TarError, lzma.LZMAError, NotImplementedError)
"""What damaged files and archives raise."""


class Member(NamedTuple):
    """One file of a source."""

    name: str  # path inside the source, with slashes; without the `.gz` that the reader takes off
    # bytes that `open` counts while it reads: of the file on the disk, or of the unpacked member of an archive
    size: int
    open: Callable[[], IO[bytes]]  # returns its content as a stream; the caller closes it

    @property
    def base(self) -> str:
        return self.name.rpartition("/")[2]


class Source:
    """Files to import: one, a folder, an archive (`.zip`, `.whl`, `.tar`, compressed) or `ARCHIVE!PLACE` in one.

    `columns` is what `--map` says: role to column. `block_bytes` is how much of a file is read at a time; no result
    depends on it. `members` are in the order of their names, an archive's in its own; `bytes_read` is that of all
    together, `opened` has the names of those read so far.
    """

    def __init__(self, path: str, columns: Mapping[str, str] | None = None, block_bytes: int = BLOCK_BYTES) -> None:
        self.path, self.columns, self.block_bytes = path, columns or {}, block_bytes
        self.bytes_read = 0
        self.opened: list[str] = []
        outer, _, inner = path.partition("!")
        self.file = Path(outer).expanduser()
        if not self.file.exists():
            raise DatasetError(f"{outer}: no such file or folder; say where the data is")
        try:
            found = self._members(inner.strip("/"))
        except UNREADABLE as error:
            raise DatasetError(f"{outer} cannot be read: {error}") from error
        self.members = [member for member in found if member.size]
        if not self.members:
            raise DatasetError(f"{path} is empty: there is nothing to import; is the path right?")

    @property
    def size(self) -> int:
        return sum(member.size for member in self.members)

    def find(self, name: str) -> Member | None:
        """Return the member whose name ends with this part, or None; raises `DatasetError` if there are several."""
        found = [member for member in self.members if member.base == name]
        if len(found) > 1:
            places = ", ".join(member.name for member in found[:4])
            raise DatasetError(f"{self.path}: {len(found)} files are called {name} ({places}); name the folder of one")
        return found[0] if found else None

    def ending(self, *endings: str) -> list[Member]:
        return [member for member in self.members if member.name.endswith(endings)]

    def one(self, *endings: str) -> Member:
        """Return the only member, or the only one whose name ends so; raises `DatasetError` otherwise."""
        found = self.members if len(self.members) == 1 else self.ending(*endings)
        if len(found) != 1:
            raise DatasetError(
                f"{self.path}: one file is imported, and {len(found)} end with {' or '.join(endings)}; "
                "name the file itself (ARCHIVE!FILE in an archive)"
            )
        return found[0]

    def missing(self, wanted: str) -> DatasetError:
        there = ", ".join(member.base for member in self.members[:8])
        return DatasetError(f"{self.path}: no {wanted} (there: {there}); is it another format?")

    def _members(self, inner: str) -> Iterable[Member]:
        name = self.file.name.lower()
        if self.file.is_dir():
            files = sorted(path for path in self.file.rglob("*") if path.is_file())
            return [self._file(path, path.relative_to(self.file).as_posix()) for path in files]
        if name.endswith(ZIPS):
            archive = zipfile.ZipFile(self.file)
            entries = [(info.filename, info.file_size, partial(archive.open, info)) for info in archive.infolist()]
        elif name.endswith(TARS):
            tar = tarfile.open(self.file)  # noqa: SIM115 - its members are read as long as the source lives
            entries = [(info.name, info.size, partial(_extract, tar, info)) for info in tar if info.isfile()]
        elif name.endswith(".zst"):
            raise DatasetError(f"{self.file}: Zstandard archives are not read; unpack it and name the folder")
        else:
            return [self._file(self.file, self.file.name)]
        inside = [one for one in entries if not inner or one[0] == inner or one[0].startswith(f"{inner}/")]
        if not inside:
            raise DatasetError(f"{self.file} has no {inner!r} inside; `unzip -l` or `tar -tf` lists what it has")
        return [self._member(*one) for one in inside]

    def _file(self, path: Path, name: str) -> Member:
        return self._member(name, path.stat().st_size, partial(io.FileIO, path))

    def _member(self, name: str, size: int, opened: Callable[[], Any]) -> Member:
        packed = name.endswith(".gz")
        return Member(name.removesuffix(".gz"), size, partial(self._open, name, opened, packed))

    def _open(self, name: str, opened: Callable[[], Any], packed: bool) -> IO[bytes]:
        if (last := name.rpartition("/")[2]) not in self.opened:
            self.opened.append(last)
        counted = io.BufferedReader(_Counting(opened(), self), 1024 * 1024)
        return gzip.GzipFile(fileobj=counted) if packed else counted  # type: ignore[return-value]


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    if stream is None:
        raise DatasetError(f"{info.name} is no file of its archive")
    return stream


class _Counting(io.RawIOBase):
    """A stream that counts what is read of it."""

    def __init__(self, stream: Any, source: Source) -> None:
        self._stream = stream
        self._source = source

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._stream.seekable())

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._stream.seek(offset, whence))

    def tell(self) -> int:
        return int(self._stream.tell())

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer) or 0
        self._source.bytes_read += count
        return int(count)

    def close(self) -> None:
        self._stream.close()
        super().close()


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
