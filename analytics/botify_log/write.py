"""Exported listens to Botify's JSON data log."""

from __future__ import annotations

from pathlib import Path

from analytics.export.durable import write_durably
from analytics.exported import open_listens

# Where the following listen was not recommended, or is not there, nobody knows what had been: null, as after the last.
_LINES = """
    SELECT if(ended_session, 'last', 'next') AS message, timestamp_ms AS "timestamp", "user", track,
           fraction AS "time",
           CASE WHEN led THEN next_latency_ms / 1000 END AS latency,
           CASE WHEN led THEN next_track END AS recommendation,
           CASE WHEN led THEN next_treatments ELSE treatments END AS experiments
    FROM (
        SELECT *, lead(track) OVER following AS next_track, lead(latency_ms) OVER following AS next_latency_ms,
               lead(treatments) OVER following AS next_treatments,
               NOT ended_session AND lead(recommender) OVER following IS NOT NULL
               AND lead("position") OVER following = "position" + 1 AS led
        FROM listens
        WINDOW following AS (PARTITION BY "user", session_id ORDER BY "position", kafka_offset)
    )
    ORDER BY timestamp_ms, "user", session_id, "position"
"""


def write_log(folder: Path, log: Path) -> int:
    """Write the listens of an export as a log, in the order of event time, and return how many lines it has.

    The log is there whole or, where this is killed, as it was before. DuckDB sorts on the disk what it has no memory
    for.

    Parameters
    ----------
    folder : Path
        Of `botify export`.
    log : Path
        A JSON object a line.

    Raises
    ------
    AnalyticsError
        The folder is no export of listens, or has none yet.
    """
    with open_listens(folder) as listens:
        return write_durably(log, lambda path: listens.write_json(_LINES, path))
