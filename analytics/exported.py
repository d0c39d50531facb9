"""Exported listens in DuckDB, which aggregates them to sessions with little memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import pandas as pd
from duckdb import ColumnExpression, ConstantExpression, Expression, FunctionExpression

from analytics import AnalyticsError
from analytics.assignment import Assignment, assignment_of, unknown_experiment
from analytics.data import CATEGORIES
from analytics.export.files import NAME, read_manifest
from schemas.events import Listen

MEMORY = "512MB"
"""Memory limit of DuckDB; beyond it, it uses the disk."""

_SESSIONS = """
    SELECT "user", min(timestamp_ms) AS started_ms, max(timestamp_ms) AS ended_ms, count(*) AS tracks,
           fsum(fraction) AS "time", bool_or(ended_session) AS ended,
           count(latency_ms) AS requests, coalesce(fsum(latency_ms), 0) AS latency_ms
    FROM listens GROUP BY "user", session_id ORDER BY "user", started_ms
"""
_SEEN = """
    SELECT "user", min(treatment) AS lowest, max(treatment) AS highest,
           min(timestamp_ms) AS since_ms, max(timestamp_ms) AS until_ms
    FROM (SELECT "user", treatments[$experiment] AS treatment, timestamp_ms FROM listens)
    WHERE treatment IS NOT NULL GROUP BY "user" ORDER BY "user"
"""
_FRAME = "SELECT * EXCLUDE (treatments), CAST(to_json(treatments) AS VARCHAR) AS treatments FROM listens"
# A copy has the event id of another listen. Copies are rare, so hashes of ids are compared first.
_COPIES = """
    CREATE TEMP TABLE copies AS
    WITH twice AS (SELECT hash(event_id) AS hashed FROM files GROUP BY hashed HAVING count(*) > 1)
    SELECT kafka_partition, kafka_offset FROM files WHERE hash(event_id) IN (FROM twice)
    QUALIFY row_number() OVER (PARTITION BY event_id ORDER BY kafka_partition, kafka_offset) > 1
"""
_LISTENS = "CREATE TEMP VIEW listens AS FROM files ANTI JOIN copies USING (kafka_partition, kafka_offset)"
_SLATES = """
    SELECT "user", timestamp_ms, slate.tracks AS tracks, slate.propensities AS propensities FROM files
    WHERE len(slate.tracks) > 0
    QUALIFY row_number() OVER (PARTITION BY request_id ORDER BY kafka_partition, kafka_offset) = 1
    ORDER BY "user", timestamp_ms, request_id
"""


class ExportedListens:
    """Listens of an export without copies; see `open_listens`."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def sessions(self) -> pd.DataFrame:
        """Return the sessions, as `analytics.sessions.sessions_of` but without their ids."""
        return self._connection.execute(_SESSIONS).df()

    def frame(self) -> pd.DataFrame:
        """Return all listens, as `analytics.data.listens_frame`; they must fit in memory."""
        columns = self._connection.execute(_FRAME).df()
        return columns.astype(dict.fromkeys(CATEGORIES, "category"))[list(Listen._fields)]

    def assignment(self, experiment: str) -> Assignment:
        """Find each user's treatment, as `analytics.assignment.assign`.

        Raises
        ------
        AnalyticsError
            No listen carries a treatment of this experiment.
        """
        seen = self._connection.execute(_SEEN, {"experiment": experiment}).df().set_index("user")
        treatments = sorted({*seen["lowest"], *seen["highest"]})
        if not treatments:
            raise unknown_experiment(experiment, self.experiments())
        places = {treatment: place for place, treatment in enumerate(treatments)}
        return assignment_of(
            seen.assign(lowest=seen["lowest"].map(places), highest=seen["highest"].map(places)), treatments
        )

    def chosen_tracks(self) -> pd.DataFrame:
        """Return user and track of the listens that no recommender led to, for `analytics.slices`."""
        query = 'SELECT "user", track, recommender FROM listens WHERE recommender IS NULL'
        return self._connection.execute(query).df()

    def write_json(self, query: str, path: Path) -> int:
        """Write the rows of a query over `listens` as JSON, an object a line, and return their number."""
        rows = self._connection.execute(f"COPY ({query}) TO $path (FORMAT json)", {"path": str(path)}).fetchone()
        return int(rows[0]) if rows else 0

    def count(self) -> int:
        """Return the number of listens."""
        rows = self._connection.execute("SELECT count(*) FROM listens").fetchone()
        return int(rows[0]) if rows else 0

    def experiments(self) -> set[str]:
        """Return the names of all experiments."""
        found = self._connection.execute("SELECT DISTINCT unnest(map_keys(treatments)) FROM listens").fetchall()
        return {name for (name,) in found}


@contextmanager
def open_listens(folder: Path, run_id: str | None = None) -> Iterator[ExportedListens]:
    """Open an export of the listens topic.

    Parameters
    ----------
    folder : Path
    run_id : str, optional
        Only this run of the simulator, whose session ids are `<run>-<user>-<number>`.

    Raises
    ------
    AnalyticsError
        The folder is no export of listens, or has no listens yet.
    """
    paths = _paths(folder, "Listen", "listens")
    with tempfile.TemporaryDirectory(prefix="botify-") as spill, duckdb.connect() as connection:
        connection.execute("SET memory_limit = $memory", {"memory": MEMORY})
        connection.execute("SET temp_directory = $folder", {"folder": spill})
        connection.execute("SET preserve_insertion_order = false")
        files = connection.read_parquet(paths, union_by_name=True)  # older files lack the columns of newer schemas
        if run_id is not None:
            files = files.filter(_run_of_session() == ConstantExpression(run_id))
        files.create_view("files")
        connection.execute(_COPIES)
        connection.execute(_LISTENS)
        yield ExportedListens(connection)


def exported_slates(folder: Path) -> pd.DataFrame:
    """Return the slates of an export of the recommendations topic, for `analytics.offline.slates.join_slates`.

    Returns
    -------
    DataFrame
        One row for each slate that is not empty, the first answer to its request: `user` and `timestamp_ms` (event
        time of the request), by which rows are sorted, and the lists `tracks` and `propensities`.

    Raises
    ------
    AnalyticsError
        The folder is no export of recommendations, or has none yet.
    """
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = $memory", {"memory": MEMORY})
        paths = _paths(folder, "Recommendation", "recommendations")
        files = connection.read_parquet(paths, union_by_name=True)
        if "slate" not in files.columns:
            raise AnalyticsError(f"{folder} was exported before there were slates; export again into another folder")
        files.create_view("files")
        return connection.execute(_SLATES).df()


def _paths(folder: Path, event: str, topic: str) -> list[str]:
    manifest = read_manifest(folder)
    if manifest is None or manifest.source.event != event:
        command = f"botify export --out {folder}" + (f" --topic {topic}" if event != "Listen" else "")
        raise AnalyticsError(f"{folder} is not an export of {topic}; `{command}` creates one")
    if not manifest.files:
        raise AnalyticsError(f"{folder / NAME} names no files: the topic had no {topic} yet; export again")
    return [str(folder / file.path) for file in manifest.files]


def _run_of_session() -> Expression:
    last_two = ConstantExpression("-[^-]*-[^-]*$")
    return FunctionExpression("regexp_replace", ColumnExpression("session_id"), last_two, ConstantExpression(""))
