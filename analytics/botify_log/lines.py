"""Lines of Botify's data log to listens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import BaseModel, ValidationError

from analytics.errors import AnalyticsError
from schemas import validation
from schemas.clients import key_of
from schemas.errors import RejectedMessageError
from schemas.events import Listen

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
    analytics.errors.AnalyticsError: line 17 is no message of Botify's data log: time: Field required
    """
    try:
        return LogLine.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        reason = f"{where}: {first['msg']}" if where else first["msg"]
        raise AnalyticsError(f"line {number} is no message of Botify's data log: {reason}") from error


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
            validation.check(listen, key_of(listen.user), text.encode())
        except RejectedMessageError as error:
            raise AnalyticsError(f"line {number} cannot be true: {error}") from error
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


def _following(line: LogLine, before: Listen, led_by: LogLine) -> Listen:
    """Return the listen to which the line before it led."""
    position = before.position + 1
    return _first(line, before.session_id)._replace(
        event_id=f"{before.session_id}-{position}",
        position=position,
        recommender=RECOMMENDER,
        treatments=led_by.experiments,
        latency_ms=None if led_by.latency is None else led_by.latency * 1000,
    )
