"""The folder of an export: files by day, added in commits that are there whole or not at all."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from analytics.export.columns import OFFSET, PARTITION
from analytics.export.durable import UNFINISHED, make_folder, write_durably
from analytics.export.errors import ExportError
from analytics.export.manifest import NAME, ExportedFile, Manifest, Source, read_manifest, write_manifest

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
                f"{source.topic} (id {source.topic_id}); a topic made anew needs a folder of its own"
            )
        _remove_unnamed(path, manifest)
        yield ExportDirectory(path, manifest, time_column)


def _refuse_foreign(path: Path) -> None:
    # one that was killed at its very beginning may have left its first manifest unfinished
    found = sorted(e.name for e in path.iterdir() if e.name != LOCK and not e.name.endswith(UNFINISHED))
    if found:
        raise ExportError(f"{path} is no export and not empty (there is {found[0]}); name another folder")


def _remove_unnamed(path: Path, manifest: Manifest) -> None:
    """Remove what an export left that was killed before its commit; other people's files are not touched."""
    named = {path / file.path for file in manifest.files}
    for pattern in ("day=*/part-*.parquet", f"day=*/.part-*.parquet{UNFINISHED}", f".{NAME}{UNFINISHED}"):
        for left in path.glob(pattern):
            if left not in named:
                left.unlink()
