"""Lines of Botify's data log to listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ValidationError

from analytics.errors import AnalyticsError
from analytics.export.files import write_durably
from analytics.exported import open_listens
from core.errors import RejectedMessageError
from core.kafka.config import key_of
from schemas.events import Listen
from schemas.validation import check

RECOMMENDER = "botify"
"""Whose recommendations they were; the log does not say which of Botify's recommenders made them."""


class LogLine(BaseModel):
    """One call of Botify's API.

    Attributes
    ----------
    message : str
        `next`, or `last` where the listener went away.
    timestamp : int
        Milliseconds since the epoch.
    time : float
        Share of the track that was heard, 0 to 1.
    latency : float, optional
        Of the answer, seconds.
    recommendation : int, optional
        The track that was recommended next.
    experiments : mapping of str to str
        The treatments under which it was.
    """

    message: Literal["next", "last"]
    timestamp: int
    user: int
    track: int
    time: float
    latency: float | None = None
    recommendation: int | None = None
    experiments: dict[str, str] = {}


def read_line(text: str, number: int) -> LogLine:
    """Read a line.

    Raises
    ------
    AnalyticsError
        It is no message of Botify's; the error says where, and why.

    Examples
    --------
    >>> read_line('{"message": "last", "timestamp": 9, "user": 3, "track": 8}', 17)
    Traceback (most recent call last):
    analytics.errors.AnalyticsError: line 17 is not a message of Botify's data log: time: Field required
    """
    try:
        return LogLine.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise AnalyticsError(f"line {number} is not a message of Botify's data log: {reason}") from error


def listens_of(lines: Iterable[str], run_id: str) -> Iterator[Listen]:
    """Yield the listen of each line.

    Botify's log names no sessions. One ends with the message `last`, and another begins where what is heard is not
    what was recommended: Botify's listeners hear what they are given.

    Parameters
    ----------
    lines : iterable of str
        In the order of the log.
    run_id : str
        First part of all session ids; the same lines and run give the same event ids, so that a log that is imported
        twice tells nothing new.

    Raises
    ------
    AnalyticsError
        A line is no message of Botify's, or cannot be true; the error says which.

    Examples
    --------
    >>> lines = ['{"message": "next", "timestamp": 5, "user": 3, "track": 7, "time": 1.0, "latency": 0.002, '
    ...          '"recommendation": 8, "experiments": {"demo": "T1"}}',
    ...          '{"message": "last", "timestamp": 9, "user": 3, "track": 8, "time": 0.1, "latency": 0.001, '
    ...          '"recommendation": null, "experiments": {"demo": "T1"}}']
    >>> for listen in listens_of(lines, "log"):
    ...     print(listen.event_id, listen.track, listen.recommender, dict(listen.treatments), listen.latency_ms)
    log-3-0-0 7 None {} None
    log-3-0-1 8 botify {'demo': 'T1'} 2.0
    """
    sessions: Counter[int] = Counter()
    open_sessions: dict[int, tuple[Listen, LogLine]] = {}  # user -> last listen, and the line it was made of
    for number, text in enumerate(lines, start=1):
        line = read_line(text, number)
        before = open_sessions.pop(line.user, None)
        if before is not None and before[1].recommendation == line.track:
            listen = _following(line, *before)
        else:
            listen = _first(line, f"{run_id}-{line.user}-{sessions[line.user]}")
            sessions[line.user] += 1
        try:
            check(listen, key_of(listen.user), text.encode())
        except RejectedMessageError as error:
            raise AnalyticsError(f"line {number} is impossible: {error}") from error
        if not listen.ended_session:
            open_sessions[line.user] = listen, line
        yield listen


def _first(line: LogLine, session_id: str) -> Listen:
    """Return a session's first listen, which the listener chose."""
    return Listen(
        event_id=f"{session_id}-0",
        user=line.user,
        track=line.track,
        fraction=line.time,
        timestamp_ms=line.timestamp,
        session_id=session_id,
        position=0,
        ended_session=line.message == "last",
        recommender=None,
        treatments={},
        propensity=None,
        latency_ms=None,
    )


def _following(line: LogLine, before: Listen, attribution: LogLine) -> Listen:
    """Return the listen to which the line before it led."""
    position = before.position + 1
    return _first(line, before.session_id)._replace(
        event_id=f"{before.session_id}-{position}",
        position=position,
        recommender=RECOMMENDER,
        treatments=attribution.experiments,
        latency_ms=None if attribution.latency is None else attribution.latency * 1000,
    )


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
