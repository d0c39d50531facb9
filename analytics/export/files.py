"""What can go wrong with an export."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.errors import AnalyticsError
from analytics.export.columns import OFFSET, PARTITION


class ExportError(AnalyticsError):
    """Topic and folder do not fit together, or the folder is another's; the message says what would help."""


T = TypeVar("T")

UNFINISHED = ".unfinished"
"""End of the name of a file that is being written; it begins with a dot, so that readers of the folder skip it."""


def write_durably(path: Path, write: Callable[[Path], T]) -> T:
    """Let `write` make a file beside its place, bring it to the disk, and put it into its place in one step."""
    unfinished = path.with_name(f".{path.name}{UNFINISHED}")
    written = write(unfinished)
    _sync(unfinished)
    unfinished.replace(path)
    _sync(path.parent)  # the name, too
    return written


def make_folder(path: Path) -> None:
    """Make a folder that is not there yet; the names on the way to it survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        _sync(folder.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


NAME = "_manifest.json"
"""Readers of Parquet folders skip names that begin with an underscore."""

FORMAT = 1


class Source(NamedTuple):
    """Where the rows come from.

    Attributes
    ----------
    topic, topic_id : str
        A topic that was made anew has its name and another id.
    event : str
        Name of the event's class.
    """

    topic: str
    topic_id: str
    event: str


class ExportedFile(NamedTuple):
    """One file.

    Attributes
    ----------
    path : str
        Below the export's folder.
    rows : int
    offsets : mapping of partition to (first, last)
        Kafka offsets of its rows, both included.
    """

    path: str
    rows: int
    offsets: Mapping[int, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an export: every record from `begin` up to `next_offsets` is in exactly one of the files.

    Attributes
    ----------
    source : Source
    begin, next_offsets : mapping of partition to offset
        Where the export began, and the first record that it has not read.
    files : tuple of ExportedFile
    commits : int
        How often something was added; numbers the files.
    rejected : int
        Records left out because they cannot be decoded or cannot be true.

    Examples
    --------
    >>> manifest = Manifest(Source("botify.listens", "an-id", "Listen"), {0: 0}, {0: 0})
    >>> file = ExportedFile("day=2026-01-31/part-000000.parquet", 9, {0: (0, 9)})
    >>> manifest = manifest.with_commit([file], {0: 10}, rejected=1)
    >>> manifest.rows, manifest.next_offsets, manifest.rejected
    (9, {0: 10}, 1)
    """

    source: Source
    begin: Mapping[int, int]
    next_offsets: Mapping[int, int]
    files: tuple[ExportedFile, ...] = field(default=())
    commits: int = 0
    rejected: int = 0

    @property
    def rows(self) -> int:
        """How many rows all files have together."""
        return sum(file.rows for file in self.files)

    def with_commit(self, files: Iterable[ExportedFile], next_offsets: Mapping[int, int], rejected: int) -> Self:
        """Return the manifest after files were added."""
        return replace(
            self,
            files=(*self.files, *files),
            next_offsets={**self.next_offsets, **next_offsets},
            commits=self.commits + 1,
            rejected=self.rejected + rejected,
        )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest in one step: this is the commit."""
    content = {
        "format": FORMAT,
        **asdict(manifest),
        "source": manifest.source._asdict(),
        "files": [file._asdict() for file in manifest.files],
    }
    text = json.dumps(content, indent=1)
    write_durably(folder / NAME, lambda path: path.write_text(text, encoding="utf-8"))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, or None where there is none.

    Raises
    ------
    ExportError
        It is not one of ours, or of a newer version.
    """
    path = folder / NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ExportError(f"{path} cannot be read: {error}; export into another folder") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ExportError(f"{path} is not a manifest of format {FORMAT}; export into another folder")
    return Manifest(
        Source(**content["source"]),
        _offsets_of_json(content["begin"]),
        _offsets_of_json(content["next_offsets"]),
        tuple(_file(entry) for entry in content["files"]),
        content["commits"],
        content["rejected"],
    )


def _offsets_of_json(content: Mapping[str, int]) -> dict[int, int]:
    return {int(partition): offset for partition, offset in content.items()}


def _file(content: Mapping[str, Any]) -> ExportedFile:
    offsets = {int(partition): (first, last) for partition, (first, last) in content["offsets"].items()}
    return ExportedFile(content["path"], content["rows"], offsets)


LOCK = "_lock"
_DAY_MS = 24 * 60 * 60 * 1000


class ExportDirectory:
    """A folder `day=YYYY-MM-DD/part-NNNNNN.parquet`, where Spark, DuckDB and pandas find a column `day`.

    Files are written and brought to the disk first, the manifest that names them last; a file that it does not name
    was left by an export that was killed. So a record is in exactly one file that counts, however often one is.

    Attributes
    ----------
    path : Path
    manifest : Manifest
    """

    def __init__(self, path: Path, manifest: Manifest, time_column: str) -> None:
        self.path = path
        self.manifest = manifest
        self._time_column = time_column

    def commit(self, table: pa.Table, next_offsets: Mapping[int, int], rejected: int) -> None:
        """Add rows, and move on in the topic.

        Parameters
        ----------
        table : Table
            Every good record between the former `next_offsets` and these.
        next_offsets : mapping of partition to offset
        rejected : int
            How many records between them are left out.
        """
        name = f"part-{self.manifest.commits:06d}.parquet"
        files = [self._write(f"{day}/{name}", rows) for day, rows in _by_day(table, self._time_column)]
        self.manifest = self.manifest.with_commit(files, next_offsets, rejected)
        write_manifest(self.path, self.manifest)

    def _write(self, relative: str, rows: pa.Table) -> ExportedFile:
        path = self.path / relative
        make_folder(path.parent)
        write_durably(path, lambda unfinished: pq.write_table(rows, unfinished, compression="zstd"))
        return ExportedFile(relative, rows.num_rows, _offsets(rows))


def _by_day(table: pa.Table, time_column: str) -> Iterator[tuple[str, pa.Table]]:
    """Split rows by the UTC day of their time; yield the folder's name and the rows."""
    days = table[time_column].to_numpy() // _DAY_MS
    for day in np.unique(days):
        yield f"day={np.datetime64(int(day), 'D')}", table.filter(pa.array(days == day))


def _offsets(rows: pa.Table) -> dict[int, tuple[int, int]]:
    bounds = rows.group_by(PARTITION).aggregate([(OFFSET, "min"), (OFFSET, "max")])
    columns = (bounds[name].to_pylist() for name in (PARTITION, f"{OFFSET}_min", f"{OFFSET}_max"))
    return {partition: (first, last) for partition, first, last in sorted(zip(*columns, strict=True))}


@contextmanager
def open_directory(
    path: Path, source: Source, begin: Mapping[int, int], time_column: str = "timestamp_ms"
) -> Iterator[ExportDirectory]:
    """Begin an export, or go on with one, and be the only one to do so.

    Parameters
    ----------
    path : Path
        Not there yet, empty, or with an export of the same topic.
    source : Source
    begin : mapping of partition to offset
        Where a new export begins; one that is there goes on from where it is.
    time_column : str
        Column of milliseconds since the epoch that decides a row's day.

    Raises
    ------
    ExportError
        Somebody else is writing, or the folder holds something else.
    """
    make_folder(path)
    with (path / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ExportError(f"another export is writing into {path}; wait for it or stop it") from error
        manifest = read_manifest(path)
        if manifest is None:
            _refuse_foreign(path)
            manifest = Manifest(source, begin, begin)
            write_manifest(path, manifest)
        if manifest.source != source:
            raise ExportError(
                f"{path} is an export of {manifest.source.topic} (id {manifest.source.topic_id}), not of "
                f"{source.topic} (id {source.topic_id}); export a recreated topic to another folder"
            )
        _remove_unnamed(path, manifest)
        yield ExportDirectory(path, manifest, time_column)


def _refuse_foreign(path: Path) -> None:
    # one that was killed at its very beginning may have left its first manifest unfinished
    found = sorted(e.name for e in path.iterdir() if e.name != LOCK and not e.name.endswith(UNFINISHED))
    if found:
        raise ExportError(f"{path} is not an export and is not empty (there is {found[0]}); choose another folder")


def _remove_unnamed(path: Path, manifest: Manifest) -> None:
    """Remove what an export left that was killed before its commit; other people's files are not touched."""
    named = {path / file.path for file in manifest.files}
    for pattern in ("day=*/part-*.parquet", f"day=*/.part-*.parquet{UNFINISHED}", f".{NAME}{UNFINISHED}"):
        for left in path.glob(pattern):
            if left not in named:
                left.unlink()
