"""The sessions of a running experiment, added up as listens arrive."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from botify.analytics.assignment import Assignment, assignment_of
from botify.schemas.events import Listen


@dataclass(slots=True)
class _Session:
    user: int
    started_ms: int
    ended_ms: int
    positions: set[int] = field(default_factory=set)
    time: float = 0.0
    ended: bool = False
    requests: int = 0
    latency_ms: float = 0.0


class Observed:
    """Sessions and treatments of the listens so far: what `sessions_of` and `assign` return for all of them.

    A copy of a listen has its session and position, and changes nothing. Memory grows with sessions, not with listens.

    Examples
    --------
    >>> observed = Observed("A")
    >>> observed.add([Listen("a-1", 7, 1, 0.5, 9, "a", 1, True, "random", {"A": "C"}, 0.1, 2.0)] * 2)
    >>> observed.sessions()[["tracks", "time", "latency_ms"]].to_dict("list")
    {'tracks': [1], 'time': [0.5], 'latency_ms': [2.0]}
    >>> observed.assignment().users.to_dict("list")
    {'treatment': ['C'], 'since_ms': [9]}
    """

    def __init__(self, experiment: str) -> None:
        self._experiment = experiment
        self._sessions: dict[tuple[int, str], _Session] = {}
        self._seen: dict[int, tuple[set[str], int, int]] = {}
        self.event_ms = 0
        """The newest event time."""

    def add(self, listens: Iterable[Listen]) -> None:
        """Add listens."""
        for listen in listens:
            at = listen.timestamp_ms
            session = self._sessions.get((listen.user, listen.session_id))
            if session is None:
                session = self._sessions[listen.user, listen.session_id] = _Session(listen.user, at, at)
            if listen.position in session.positions:
                continue
            session.positions.add(listen.position)
            session.started_ms, session.ended_ms = min(session.started_ms, at), max(session.ended_ms, at)
            session.time += listen.fraction
            session.ended |= listen.ended_session
            if listen.latency_ms is not None:
                session.requests += 1
                session.latency_ms += listen.latency_ms
            self.event_ms = max(self.event_ms, at)
            treatment = listen.treatments.get(self._experiment)
            if treatment is not None:
                names, since_ms, until_ms = self._seen.get(listen.user, (set(), at, at))
                self._seen[listen.user] = (names | {treatment}, min(since_ms, at), max(until_ms, at))

    def sessions(self) -> pd.DataFrame:
        """Return the sessions so far, as `botify.analytics.sessions.sessions_of`."""
        return pd.DataFrame(
            [
                (
                    one.user,
                    one.started_ms,
                    one.ended_ms,
                    len(one.positions),
                    one.time,
                    one.ended,
                    one.requests,
                    one.latency_ms,
                )
                for one in self._sessions.values()
            ],
            columns=["user", "started_ms", "ended_ms", "tracks", "time", "ended", "requests", "latency_ms"],
        )

    def assignment(self) -> Assignment | None:
        """Return the listeners' treatments, as `analytics.assignment.assign`; None before the first treated listen."""
        if not self._seen:
            return None
        names = sorted(set().union(*(treatments for treatments, _, _ in self._seen.values())))
        rows = [
            (names.index(min(treatments)), names.index(max(treatments)), since_ms, until_ms)
            for treatments, since_ms, until_ms in self._seen.values()
        ]
        seen = pd.DataFrame(rows, index=list(self._seen), columns=["lowest", "highest", "since_ms", "until_ms"])
        return assignment_of(seen.sort_index(), names)
