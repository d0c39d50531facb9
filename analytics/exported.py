"""Exported listens in DuckDB or Spark, which aggregate them to sessions with little memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
from pyarrow import parquet

from botify.analytics import AnalyticsError
from botify.analytics.assignment import Assignment, assignment_of, unknown_experiment
from botify.analytics.data import CATEGORIES
from botify.analytics.export_files import NAME, read_manifest
from botify.core.sql import Engine, EngineName, open_engine, steps
from botify.schemas.events import Listen

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
