"""The folder of an export, Parquet files by day and the manifest that names them; and its listens in DuckDB or Spark.

The engines aggregate listens to sessions with little memory.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import parquet
from pydantic import TypeAdapter, ValidationError

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, assignment_of, unknown_experiment
from botify.analytics.data import CATEGORIES
from botify.core.files import UNFINISHED, held, make_folder, write_durably
from botify.core.sql import Engine, EngineName, open_engine, steps
from botify.schemas.codec import load
from botify.schemas.events import Event, Listen, Recommendation

PARTITION, OFFSET = "kafka_partition", "kafka_offset"  # columns that identify a row's record in the topic

_TYPES: Mapping[str, pa.DataType] = {
    "string": pa.string(),
    "bytes": pa.binary(),
    "int": pa.int32(),
    "long": pa.int64(),
    "double": pa.float64(),
    "boolean": pa.bool_(),
}


def arrow_schema(event: type[Event]) -> pa.Schema:
    """Return the columns of an event: the fields of its newest Avro schema, then partition and offset.

    A union with null becomes a nullable column, a map of strings an Arrow map, a record a struct.
    `Recommendation.track` of an empty slate, -1 in the record, is null.
    """
    newest = max((schema for schema in load() if schema.event is event), key=lambda schema: schema.version)
    fields = [_field(field["name"], field["type"]) for field in json.loads(newest.text)["fields"]]
    if event is Recommendation:  # an empty slate has no track
        fields = [field.with_nullable(field.nullable or field.name == "track") for field in fields]
    return pa.schema(
        [*fields, pa.field(PARTITION, pa.int32(), nullable=False), pa.field(OFFSET, pa.int64(), nullable=False)]
    )


def _field(name: str, avro_type: Any) -> pa.Field:
    if isinstance(avro_type, list):
        (present,) = (member for member in avro_type if member != "null")
        return pa.field(name, _type(present))
    return pa.field(name, _type(avro_type), nullable=False)


def _type(avro_type: Any) -> pa.DataType:
    if isinstance(avro_type, dict) and avro_type["type"] == "array":
        return pa.list_(_type(avro_type["items"]))
    if isinstance(avro_type, dict) and avro_type["type"] == "record":
        return pa.struct([_field(field["name"], field["type"]) for field in avro_type["fields"]])
    if isinstance(avro_type, dict):
        return pa.map_(pa.string(), _type(avro_type["values"]))
    return _TYPES[avro_type]


def record_batch(
    schema: pa.Schema, events: Sequence[Event], partitions: Sequence[int], offsets: Sequence[int]
) -> pa.RecordBatch:
    """Turn events into columns."""
    if not events:
        return pa.RecordBatch.from_pylist([], schema=schema)
    columns = [*zip(*events, strict=True), partitions, offsets]
    if isinstance(events[0], Recommendation):
        at = Recommendation._fields.index("track")
        columns[at] = [None if track < 0 else track for track in columns[at]]
    arrays = [_array(field.type, values) for field, values in zip(schema, columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _array(type_: pa.DataType, values: Sequence[Any]) -> pa.Array:
    if not pa.types.is_map(type_):
        return pa.array(values, type_)
    # three times as fast as pa.array, which needs a list of pairs for each row
    missing = np.array([mapping is None for mapping in values], dtype=np.bool_)
    values = [mapping or {} for mapping in values]
    ends = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(mapping) for mapping in values], out=ends[1:])
    keys = pa.array([key for mapping in values for key in mapping], type_.key_type)
    items = pa.array([item for mapping in values for item in mapping.values()], type_.item_type)
    return pa.MapArray.from_arrays(pa.array(ends), keys, items, mask=pa.array(missing))


class ExportError(AnalyticsError):
    """Topic and folder do not fit together, or the folder is in use; the message says what to do."""


NAME = "_manifest.json"  # readers of Parquet folders skip names that begin with an underscore


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows come from."""

    topic: str  # a topic that was deleted and created again has another id
    topic_id: str
    event: str  # name of the event's class


@dataclass(frozen=True, slots=True)
class ExportedFile:
    """One file."""

    path: str  # below the export's folder
    rows: int
    offsets: Mapping[int, tuple[int, int]]  # Kafka offsets of its rows, both included


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of an export: every record from `begin` up to `next_offsets` is in exactly one of the files."""

    source: Source
    begin: Mapping[int, int]  # first record of the export, and first record that it has not read
    next_offsets: Mapping[int, int]
    files: tuple[ExportedFile, ...] = ()
    commits: int = 0  # number of commits; the next one's files have this number
    rejected: int = 0  # records left out because they cannot be decoded or are invalid
    format: Literal[1] = 1

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    def with_commit(self, files: Iterable[ExportedFile], next_offsets: Mapping[int, int], rejected: int) -> Self:
        return replace(
            self,
            files=(*self.files, *files),
            next_offsets={**self.next_offsets, **next_offsets},
            commits=self.commits + 1,
            rejected=self.rejected + rejected,
        )


_JSON = TypeAdapter(Manifest)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Replace the folder's manifest in one step: this is the commit."""
    text = _JSON.dump_json(manifest, indent=1)
    write_durably(folder / NAME, lambda path: path.write_bytes(text))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the folder's manifest, None without one; raises `ExportError` if it is none, or of a newer version."""
    path = folder / NAME
    try:
        return _JSON.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ExportError(f"{path} cannot be read: {error}; export into another folder") from error
    except ValidationError as error:
        raise ExportError(f"{path} is not a manifest of format 1; export into another folder") from error


LOCK = "_lock"
_DAY_MS = 24 * 60 * 60 * 1000


class ExportDirectory:
    """A folder `day=YYYY-MM-DD/part-NNNNNN.parquet`, in which Spark, DuckDB and pandas find a column `day`.

    Files are written and synced first, the manifest that names them last; a file that it does not name was left by a
    killed export. So each record is in exactly one named file.
    """

    def __init__(self, path: Path, manifest: Manifest, time_column: str) -> None:
        self.path = path
        self.manifest = manifest
        self._time_column = time_column

    def commit(self, table: pa.Table, next_offsets: Mapping[int, int], rejected: int) -> None:
        """Add all valid records between the former `next_offsets` and these; `rejected` counts those left out."""
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
    """Start or resume an export, under a lock.

    `path` is missing, empty, or has an export of the same topic; `time_column`, ms since the epoch, gives a row's day.
    Raises `ExportError` if another export is writing, or the folder holds other files.
    """
    make_folder(path)
    with held(path / LOCK, ExportError(f"another export is writing into {path}; wait for it or stop it")):
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
    # an export that was killed at its start may have left an unfinished manifest
    found = sorted(e.name for e in path.iterdir() if e.name != LOCK and not e.name.endswith(UNFINISHED))
    if found:
        raise ExportError(f"{path} is not an export and is not empty (there is {found[0]}); choose another folder")


def _remove_unnamed(path: Path, manifest: Manifest) -> None:
    """Remove what a killed export left uncommitted; files of other names are not touched."""
    named = {path / file.path for file in manifest.files}
    for pattern in ("day=*/part-*.parquet", f"day=*/.part-*.parquet{UNFINISHED}", f".{NAME}{UNFINISHED}"):
        for left in path.glob(pattern):
            if left not in named:
                left.unlink()


_STEPS = 2**32
"""Steps of a fraction and of a millisecond: sums are exact up to two million fractions, or half an hour of latency."""

_SESSIONS = f"""
    SELECT "user", min(timestamp_ms) AS started_ms, max(timestamp_ms) AS ended_ms, count(*) AS tracks,
           sum(CAST({steps("fraction", _STEPS)} AS DOUBLE)) / {_STEPS}e0 AS "time",
           bool_or(ended_session) AS ended, count(latency_ms) AS requests,
           coalesce(sum(CAST({steps("latency_ms", _STEPS)} AS DOUBLE)), 0e0) / {_STEPS}e0 AS latency_ms
    FROM listens GROUP BY "user", session_id ORDER BY "user", started_ms, session_id
"""
_SEEN = """
    SELECT "user", min(treatment) AS lowest, max(treatment) AS highest,
           min(timestamp_ms) AS since_ms, max(timestamp_ms) AS until_ms
    FROM (SELECT "user", treatments[$experiment] AS treatment, timestamp_ms FROM listens)
    WHERE treatment IS NOT NULL GROUP BY "user" ORDER BY "user"
"""
_PLAIN = ", ".join(f'"{name}"' for name in Listen._fields if name != "treatments")
_FRAME = f"SELECT {_PLAIN}, CAST(to_json(treatments) AS STRING) AS treatments FROM listens"
_CHOSEN = 'SELECT "user", track, recommender FROM listens WHERE recommender IS NULL'
_EXPERIMENTS = "SELECT DISTINCT explode(map_keys(treatments)) AS name FROM listens"
_OF_RUN = "SELECT * FROM files WHERE regexp_replace(session_id, '-[^-]*-[^-]*$', '') = $run"
# a copy has the event id of another listen. Copies are rare, so hashes of ids are compared first.
_COPIES = """
    SELECT kafka_partition, kafka_offset FROM (
        SELECT kafka_partition, kafka_offset,
               row_number() OVER (PARTITION BY event_id ORDER BY kafka_partition, kafka_offset) AS place
        FROM of_run WHERE xxhash64(event_id) IN
            (SELECT xxhash64(event_id) FROM of_run GROUP BY xxhash64(event_id) HAVING count(*) > 1)
    ) WHERE place > 1
"""
_LISTENS = "SELECT * FROM of_run ANTI JOIN copies USING (kafka_partition, kafka_offset)"
_SLATES = """
    SELECT "user", timestamp_ms, tracks, propensities FROM (
        SELECT "user", timestamp_ms, request_id, slate.tracks AS tracks, slate.propensities AS propensities,
               row_number() OVER (PARTITION BY request_id ORDER BY kafka_partition, kafka_offset) AS place
        FROM files WHERE array_size(slate.tracks) > 0 AND request_id NOT LIKE '%~%'  -- of a group: not shown
    ) WHERE place = 1 ORDER BY "user", timestamp_ms, request_id
"""


class ExportedListens:
    """Listens of an export without copies, as the view `listens` of an engine; see `open_listens`."""

    def __init__(self, folder: Path, engine: Engine, run_id: str | None = None) -> None:
        self._engine = engine
        engine.read("files", _paths(folder, "Listen", "listens"))
        if run_id is None:
            engine.view("of_run", "SELECT * FROM files")
        else:
            engine.view("of_run", _OF_RUN, run=run_id)
        engine.keep("copies", _COPIES)
        engine.view("listens", _LISTENS)

    def sessions(self) -> pd.DataFrame:
        """Return the sessions, as `botify.analytics.sessions.sessions_of` but without their ids."""
        return self._engine.frame(_SESSIONS)

    def frame(self) -> pd.DataFrame:
        """Return all listens, as `botify.analytics.data.listens_frame`; they must fit in memory."""
        columns = self._engine.frame(_FRAME)
        return columns.astype(dict.fromkeys(CATEGORIES, "category"))[list(Listen._fields)]

    def assignment(self, experiment: str) -> Assignment:
        """Find each user's treatment; as `botify.analytics.assignment.assign`, which says what it raises."""
        seen = self._engine.frame(_SEEN, experiment=experiment).set_index("user")
        treatments = sorted({*seen["lowest"], *seen["highest"]})
        if not treatments:
            raise unknown_experiment(experiment, self.experiments())
        places = {treatment: place for place, treatment in enumerate(treatments)}
        return assignment_of(
            seen.assign(lowest=seen["lowest"].map(places), highest=seen["highest"].map(places)), treatments
        )

    def chosen_tracks(self) -> pd.DataFrame:
        """Return user and track of the listens that no recommender led to, for `botify.analytics.assignment`."""
        return self._engine.frame(_CHOSEN)

    def count(self) -> int:
        return int(self._engine.frame("SELECT count(*) AS listens FROM listens")["listens"].iloc[0])

    def experiments(self) -> set[str]:
        return set(self._engine.frame(_EXPERIMENTS)["name"])


@contextmanager
def open_listens(
    folder: Path, run_id: str | None = None, engine: EngineName = EngineName.DUCKDB
) -> Iterator[ExportedListens]:
    """Open an export of the listens topic, or of one run of the simulator in it; both engines return the same.

    Raises `AnalyticsError` if the folder is no export of listens, or has no listens yet, and `EngineError` or
    `JavaMissingError` if Spark, or a Java for it, is not installed.
    """
    _paths(folder, "Listen", "listens")  # before an engine is started
    with open_engine(engine) as opened:
        yield ExportedListens(folder, opened, run_id)


def exported_slates(folder: Path, engine: EngineName = EngineName.DUCKDB) -> pd.DataFrame:
    """Return the slates of an export of the recommendations topic, for `botify.analytics.offline.slates.join_slates`.

    The result has a row for each slate that is not empty, the first answer to its request: `user` and `timestamp_ms`
    (event time of the request, in ascending order), and the lists `tracks` and `propensities`. Errors as of
    `open_listens`.
    """
    paths = _paths(folder, "Recommendation", "recommendations")
    if not any("slate" in parquet.read_schema(path).names for path in paths):
        raise AnalyticsError(f"{folder} was exported before there were slates; export again into another folder")
    with open_engine(engine) as opened:
        opened.read("files", paths)
        return opened.frame(_SLATES)


def _paths(folder: Path, event: str, topic: str) -> list[Path]:
    manifest = read_manifest(folder)
    if manifest is None or manifest.source.event != event:
        command = f"botify data export --out {folder}" + (f" --topic {topic}" if event != "Listen" else "")
        raise AnalyticsError(f"{folder} is not an export of {topic}; `{command}` creates one")
    if not manifest.files:
        raise AnalyticsError(f"{folder / NAME} names no files: the topic had no {topic} yet; export again")
    return [folder / file.path for file in manifest.files]
