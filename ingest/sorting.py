"""From staged rows to a dataset's files: ids, order, sessions, figures. DuckDB sorts on the disk what needs room."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from botify.core.keyed_random import keys_of_texts, mix
from botify.ingest.dataset import (
    CATALOGUE,
    CATALOGUE_SCHEMA,
    EVENT_SCHEMA,
    EVENTS,
    ID_SCHEMA,
    ITEMS,
    KINDS,
    SESSION_GAP_MS,
)
from botify.schemas.external_ids import USERS

STAGED_EVENTS, STAGED_ITEMS = "events.parquet", "items.parquet"
MEMORY = "700MB"  # what DuckDB may use before it continues on the disk
ROWS = 1024 * 1024  # of a row group
ID_KEY = 0x1D5  # numbers are ranks of ids mixed with this key, so they do not say when or how often an id came

Progress = Callable[[int, int], None]  # told how many events are done, and of how many


class Tally:
    """What is counted of events while they pass in order of time; it also numbers sessions.

    `has_time`: without times, no two events share one.
    `sessions_given`: whether the source names sessions.
    """

    def __init__(self, users: int, *, has_time: bool) -> None:
        self.events = self.ties = 0
        self.kinds = np.zeros(len(KINDS), dtype=np.int64)
        self.start_ms, self.end_ms = 0, 0
        self.sessions_given = False
        self._has_time = has_time
        self._last_ms = np.full(users, _NEVER, dtype=np.int64)
        self._session = np.zeros(users, dtype=np.int64)

    def pass_events(
        self,
        users: NDArray[np.integer[Any]],
        times_ms: NDArray[np.int64],
        sessions: NDArray[np.int64] | None,
        kinds: NDArray[np.integer[Any]],
    ) -> NDArray[np.int64]:
        """Count the next events, and return their sessions, by default the first event's position."""
        order = np.argsort(users, kind="stable")
        user, time_ms = users[order], times_ms[order]
        fresh = np.ones(len(order), dtype=bool)  # the first of its user in this batch
        fresh[1:] = user[1:] != user[:-1]
        before = np.where(fresh, self._last_ms[user], np.roll(time_ms, 1))
        if self._has_time:
            self.ties += int(np.count_nonzero(before // 1000 == time_ms // 1000))
        if sessions is None:
            begins = (before == _NEVER) | (time_ms - before > SESSION_GAP_MS)
            numbers = np.where(begins, self.events + order, self._session[user])
            # an event that begins nothing has the number of the event before, back to one that begins or is fresh
            source = np.maximum.accumulate(np.where(begins | fresh, np.arange(len(order)), 0))
            sessions = np.empty(len(order), dtype=np.int64)
            sessions[order] = numbers[source]
        else:
            self.sessions_given = True
        last = np.append(np.flatnonzero(fresh)[1:], len(order)) - 1
        self._last_ms[user[last]] = time_ms[last]
        self._session[user[last]] = sessions[order[last]]
        self._count(times_ms, kinds)
        return sessions

    def _count(self, times_ms: NDArray[np.int64], kinds: NDArray[np.integer[Any]]) -> None:
        if not self.events:
            self.start_ms = int(times_ms[0])
        self.end_ms = int(times_ms[-1])
        self.events += len(times_ms)
        self.kinds += np.bincount(kinds, minlength=len(KINDS))


_NEVER = -(2**61)


_KEYED = "CREATE OR REPLACE TABLE keyed (key UBIGINT, id VARCHAR)"
_IDS = {
    USERS: 'SELECT DISTINCT "user" AS id FROM staged_events',
    ITEMS: "SELECT item AS id FROM staged_events UNION SELECT item FROM staged_items",
}
_NUMBERED_IDS = """
    SELECT CAST(row_number() OVER (ORDER BY key, id) - 1 AS INTEGER) AS id, id AS external_id
    FROM keyed ORDER BY key, id
"""
_CATALOGUE = """
    SELECT id AS item, external_id, title, artist, coalesce(string_split(genre, '|'), []) AS genres, "release",
           mood, TRY_CAST("year" AS INTEGER) AS "year", country, vector AS sketch
    FROM items LEFT JOIN (
        SELECT item AS external_id, arg_min(title, ordinal) FILTER (title IS NOT NULL) AS title,
               arg_min(artist, ordinal) FILTER (artist IS NOT NULL) AS artist,
               arg_min(genre, ordinal) FILTER (genre IS NOT NULL) AS genre,
               arg_min("release", ordinal) FILTER ("release" IS NOT NULL) AS "release",
               arg_min(mood, ordinal) FILTER (mood IS NOT NULL) AS mood,
               arg_min("year", ordinal) FILTER ("year" IS NOT NULL) AS "year",
               arg_min(country, ordinal) FILTER (country IS NOT NULL) AS country,
               arg_min(vector, ordinal) FILTER (vector IS NOT NULL) AS vector
        FROM staged_items GROUP BY item
    ) USING (external_id)
    ORDER BY id
"""
_WITH_POSITION = """
    CREATE OR REPLACE VIEW timed AS
    SELECT * REPLACE (row_number() OVER (PARTITION BY "user" ORDER BY ordinal) - 1 AS time_ms) FROM staged_events
"""
_NUMBERED = """
    CREATE OR REPLACE TABLE numbered AS
    SELECT users.id AS "user", items.id AS item, time_ms, fraction, kind, session, organic, ordinal
    FROM timed
    JOIN users ON users.external_id = timed."user"
    JOIN items ON items.external_id = timed.item
"""
_ORDERED = "SELECT * EXCLUDE (ordinal) FROM numbered ORDER BY time_ms, ordinal"


class Sorter:
    """Makes a dataset's files of staged rows, with bounded memory."""

    def __init__(self, staged: Path, target: Path, spill: Path) -> None:
        self._target = target
        self._connection = duckdb.connect()
        self._do(f"SET memory_limit = '{MEMORY}'")
        self._do("SET threads = 2")
        self._do("SET preserve_insertion_order = false")
        self._do(f"SET temp_directory = '{str(spill).replace(chr(39), chr(39) * 2)}'")
        self._view("staged_events", staged / STAGED_EVENTS)
        self._view("staged_items", staged / STAGED_ITEMS)

    def close(self) -> None:
        self._connection.close()

    def write_ids(self) -> None:
        """Write the tables that give users and items their numbers."""
        for file, query in _IDS.items():
            self._do(_KEYED)
            for batch in self._batches(query):
                keys = mix(ID_KEY, keys_of_texts(batch["id"].to_pylist()))
                self._connection.register("more", pa.table({"key": keys, "id": batch["id"]}))
                self._do("INSERT INTO keyed FROM more")
                self._connection.unregister("more")
            _write(self._batches(_NUMBERED_IDS), self._target / file, ID_SCHEMA)
            self._do("DROP TABLE keyed")
        self._view("users", self._target / USERS)
        self._view("items", self._target / ITEMS)

    def write_catalogue(self) -> None:
        """Write what is known of each item: of each field, what was said first."""
        _write(self._batches(_CATALOGUE), self._target / CATALOGUE, CATALOGUE_SCHEMA)

    def write_events(self, *, has_time: bool, progress: Progress) -> tuple[Tally, int, int]:
        """Write the events in order of time; count them, different pairs of a user and an item, and items."""
        self._do("CREATE OR REPLACE VIEW timed AS FROM staged_events" if has_time else _WITH_POSITION)
        self._do(_NUMBERED)
        events = self._count("SELECT count(*) FROM numbered")
        tally = Tally(self._count("SELECT count(*) FROM users"), has_time=has_time)
        counted = _counted(self._batches(_ORDERED), tally, lambda done: progress(done, events))
        _write(counted, self._target / EVENTS, EVENT_SCHEMA)
        pairs = self._count('SELECT count(*) FROM (SELECT DISTINCT "user", item FROM numbered)')
        return tally, pairs, self._count("SELECT count(DISTINCT item) FROM numbered")

    def _view(self, name: str, files: Path) -> None:
        self._connection.read_parquet(str(files)).create_view(name)

    def _do(self, statement: str) -> None:
        self._connection.execute(statement).fetchall()

    def _count(self, query: str) -> int:
        (row,) = self._connection.execute(query).fetchall()
        return int(row[0])

    def _batches(self, query: str) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a query; other statements may run meanwhile."""
        yield from self._connection.cursor().sql(query).to_arrow_reader(ROWS)


def content_hash(target: Path) -> str:
    """Return a SHA-256 of all rows of a dataset, independent of how its files are compressed and cut."""
    columns = {name: hashlib.sha256() for name in EVENT_SCHEMA.names}
    for batch in pq.ParquetFile(target / EVENTS).iter_batches(ROWS):
        for name, digest in columns.items():
            values = batch[name]
            if name == "organic":
                values = values.cast(pa.int8()).fill_null(-1)
            digest.update(values.to_numpy(zero_copy_only=False).tobytes())
    whole = hashlib.sha256("".join(digest.hexdigest() for digest in columns.values()).encode())
    for file in (USERS, ITEMS, CATALOGUE):
        for batch in pq.ParquetFile(target / file).iter_batches(ROWS // 16):
            for row in batch.to_pylist():
                if row.get("sketch", "") is None:  # datasets without vectors have the hash that they had before
                    del row["sketch"]
                whole.update(json.dumps(list(row.values())).encode() + b"\n")
    return whole.hexdigest()


def _counted(
    batches: Iterable[pa.RecordBatch], tally: Tally, progress: Callable[[int], None]
) -> Iterator[pa.RecordBatch]:
    """Yield the events with their sessions."""
    for batch in batches:
        users, times_ms, kinds = (batch[name].to_numpy() for name in ("user", "time_ms", "kind"))
        given = None if batch["session"].null_count else batch["session"].to_numpy()
        sessions = tally.pass_events(users, times_ms, given, kinds)
        yield batch.set_column(EVENT_SCHEMA.get_field_index("session"), "session", pa.array(sessions))
        progress(tally.events)


def _write(batches: Iterable[pa.RecordBatch], path: Path, schema: pa.Schema) -> None:
    """Write a file whose row groups have `ROWS` rows each, however the batches are cut."""
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        waiting: list[pa.RecordBatch] = []
        for batch in batches:
            waiting.append(batch)
            while sum(len(one) for one in waiting) >= ROWS:
                table = pa.Table.from_batches(waiting).cast(schema)
                writer.write_table(table.slice(0, ROWS))
                waiting = table.slice(ROWS).to_batches()
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting).cast(schema))
