"""Botify's JSON data log: written from an export, or imported into the topic.

A line is one call of Botify's API: a listen, and the recommendation that led to the *following* listen of its session
(track, treatments, and latency in seconds).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer
from pydantic import BaseModel, ValidationError

from botify.analytics import AnalyticsError
from botify.analytics.exported import ExportedListens
from botify.core.cli import console, progress
from botify.core.errors import PublishError, RejectedMessageError
from botify.core.files import write_durably
from botify.core.kafka.admin import end_offsets, require_kafka
from botify.core.kafka.config import key_of
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.core.sql import open_duckdb
from botify.schemas.catalogue import read_catalogue
from botify.schemas.events import Listen
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics
from botify.schemas.validation import check

RECOMMENDER = "botify"  # recommender of all listens: the log does not say which of Botify's it was


class LogLine(BaseModel):
    """One call of Botify's API."""

    message: Literal["next", "last"]  # `next`, or `last` at the end of a session
    timestamp: int  # milliseconds since the epoch
    user: int
    track: int
    time: float  # fraction of the track that was heard, 0 to 1
    latency: float | None = None  # of the answer, seconds
    recommendation: int | None = None  # the track that was recommended next
    experiments: dict[str, str] = {}  # treatments of the recommendation


def read_line(text: str, number: int) -> LogLine:
    """Read a line; raises `AnalyticsError`, which says where it is invalid and why.

    Examples
    --------
    >>> read_line('{"message": "last", "timestamp": 9, "user": 3, "track": 8}', 17)
    Traceback (most recent call last):
    botify.analytics.AnalyticsError: line 17 is not a message of Botify's data log: time: Field required
    """
    try:
        return LogLine.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise AnalyticsError(f"line {number} is not a message of Botify's data log: {reason}") from error


def listens_of(lines: Iterable[str], run_id: str) -> Iterator[Listen]:
    """Yield the listen of each line; raises `AnalyticsError` if one is invalid.

    Botify's log names no sessions. One ends with the message `last`, or where the next track is not the recommended
    one: Botify's listeners play what is recommended. Session ids begin with `run_id`.
    """
    sessions: Counter[int] = Counter()
    open_sessions: dict[int, tuple[Listen, LogLine]] = {}  # user -> last listen and its line
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
            raise AnalyticsError(f"line {number} is not a valid listen: {error}") from error
        if not listen.ended_session:
            open_sessions[line.user] = listen, line
        yield listen


def _first(line: LogLine, session_id: str) -> Listen:
    """Return a session's first listen, of a track that the listener chose."""
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
    """Return a listen that follows the recommendation of the line before."""
    position = before.position + 1
    return _first(line, before.session_id)._replace(
        event_id=f"{before.session_id}-{position}",
        position=position,
        recommender=RECOMMENDER,
        treatments=attribution.experiments,
        latency_ms=None if attribution.latency is None else attribution.latency * 1000,
    )


# The course's notebook reads fields from every line that a listen lacks; the listener's other listens fill them:
# - Treatments are a function of the listener. A line that led to no recommendation has those of the listener's last
#   recommendation, or of the first that follows in its session.
# - A `last` line has no timed answer. It has the listener's mean latency, so that the mean over all lines is the mean
#   over the timed answers.
# - The log names no sessions, so each ends with `last`, even if its listener sent no end: a `next` would join it to the
#   listener's next session.
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
    """Numbers of listens in and out of a log."""

    lines: int  # listens in the log
    # listens before their listener's first recommendation, whose treatments are unknown, and sessions that began after
    # the last recommendation of all. `botify experiment` leaves out the same.
    left_out: int


def write_log(folder: Path, log: Path) -> WrittenLog:
    """Write the listens of an export as a log, in order of event time; the log is replaced in one step.

    Raises `AnalyticsError` if the folder is no export of listens, or has no listens yet.
    """
    with open_duckdb() as engine:
        listens = ExportedListens(folder, engine)
        lines = write_durably(log, lambda path: engine.write_json(_LINES, path))
        return WrittenLog(lines, listens.count() - lines)


def publish_listens(settings: Settings, listens: Iterable[Listen]) -> int:
    """Publish listens, wait for all acknowledgements, and return their number.

    At least once: a second import has the same event ids. Readers drop them, workers those of a user's last 50. Raises
    `TopicError` if the topic does not exist, and `PublishError` if a broker refused a listen or did not answer.
    """
    topic = Topics.of(settings).listens.name
    end_offsets(settings, topic)  # fails at once if the topic does not exist
    publisher, codec, count = RecordPublisher(settings, linger_ms=20), codec_of(settings), 0
    try:
        for listen in listens:
            publisher.send(topic, codec.encode(listen), key_of(listen.user))
            count += 1
        publisher.flush()
    except PublishError as error:
        reason = f"not all listens were written: {error.reason}; repeat the import into an empty topic"
        raise PublishError(topic, reason) from error
    return count


def import_log(
    file: Annotated[
        Path, typer.Argument(help="Botify's data log: one JSON object per line.", exists=True, dir_okay=False)
    ],
    run: Annotated[
        str | None, typer.Option(help="Prefix of all session ids; default: derived from the file's content.")
    ] = None,
) -> None:
    """Publish Botify's JSON data log to the listens topic; import a log once.

    Tables drop the copies of a second import; the state of listeners with more than 50 listens counts them again.
    """
    settings = require_kafka(Settings.from_env())
    run_id = run or f"log{_digest(file)[:8]}"
    with progress("reading"):  # completely, so that nothing is published of a log with an invalid line
        known = set(read_catalogue(settings, codec_of(settings)))
        unknown = sum(listen.track not in known for listen in _read(file, run_id))
    with progress("publishing"):
        count = publish_listens(settings, _read(file, run_id))
    console.print(f"{count:,} listens of run {run_id}", highlight=False)
    if unknown:
        console.print(
            f"[yellow]{unknown:,} are of tracks that the catalogue lacks:[/] they count in tables, but the worker "
            "makes dead letters of them. `botify world make --publish` publishes Botify's catalogue.",
            highlight=False,
        )


def _read(file: Path, run_id: str) -> Iterator[Listen]:
    with file.open(encoding="utf-8") as lines:
        yield from listens_of(lines, run_id)


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
