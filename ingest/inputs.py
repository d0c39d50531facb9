"""The files of a source, wherever they lie: a file, a folder, an archive, or a place inside an archive."""

import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

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
