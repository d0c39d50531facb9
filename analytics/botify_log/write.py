"""Exported listens to Botify's JSON data log."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from analytics.export.durable import write_durably
from analytics.exported import open_listens

# What the course's notebook reads from every line, but a listen does not say, is told by the listener's other listens:
# - Treatments are a function of the listener. A line that led to no recommendation has those of the listener's last
#   recommendation, or of the first that follows in its session.
# - Nobody timed an answer to the call of a `last` line. It has the listener's mean latency, which leaves the mean over
#   all the listener's lines the mean over the answers that were timed.
# - The log names no sessions, so each ends with `last`, also where its listener went away without a word: a `next`
#   would join it to the listener's next session.
_LINES = """
    WITH pairs AS (
        SELECT *, lead(track) OVER following AS next_track, lead(latency_ms) OVER following AS next_latency_ms,
               lead(treatments) OVER following AS next_treatments, lead(track) OVER following IS NULL AS final,
               NOT ended_session AND lead(recommender) OVER following IS NOT NULL
               AND lead("position") OVER following = "position" + 1 AS led
        FROM listens
        WINDOW following AS (PARTITION BY "user", session_id ORDER BY "position", kafka_offset)
    ),
    calls AS (
        SELECT *, CASE WHEN led THEN next_latency_ms END AS timed_ms,
               CASE WHEN led THEN next_treatments WHEN recommender IS NOT NULL THEN treatments END AS known
        FROM pairs
    ),
    lines AS (
        SELECT *, coalesce(timed_ms, avg(timed_ms) OVER (PARTITION BY "user")) AS line_ms,
               coalesce(known, last_value(known IGNORE NULLS) OVER before, first_value(known IGNORE NULLS) OVER rest)
               AS experiments, min(timestamp_ms) OVER (PARTITION BY "user", session_id) AS started_ms
        FROM calls
        WINDOW before AS (PARTITION BY "user" ORDER BY timestamp_ms, session_id, "position", kafka_offset
                          ROWS UNBOUNDED PRECEDING),
               rest AS (PARTITION BY "user", session_id ORDER BY "position", kafka_offset
                        ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
    )
    SELECT if(ended_session OR final, 'last', 'next') AS message, timestamp_ms AS "timestamp", "user", track,
           fraction AS "time", line_ms / 1000 AS latency, CASE WHEN led THEN next_track END AS recommendation,
           experiments
    FROM lines
    WHERE experiments IS NOT NULL
      AND started_ms <= (SELECT max(timestamp_ms) FROM listens WHERE recommender IS NOT NULL)
    ORDER BY timestamp_ms, "user", session_id, "position"
"""


class WrittenLog(NamedTuple):
    """What became of the listens.

    Attributes
    ----------
    lines : int
        Listens that are in the log.
    left_out : int
        Listens before their listener's first recommendation, where nothing says which treatments the listener had,
        and sessions that began after the last recommendation of all. `botify experiment` leaves out the same.
    """

    lines: int
    left_out: int


def write_log(folder: Path, log: Path) -> WrittenLog:
    """Write the listens of an export as a log, in the order of event time.

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
        lines = write_durably(log, lambda path: listens.write_json(_LINES, path))
        return WrittenLog(lines, listens.count() - lines)
