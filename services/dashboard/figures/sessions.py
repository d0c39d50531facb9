"""A listener's listens, session by session."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.events import Listen


class HeardSession(NamedTuple):
    """Listens of one session, oldest first."""

    session_id: str
    listens: tuple[Listen, ...]

    @property
    def time(self) -> float:
        """Sum of fractions."""
        return sum(listen.fraction for listen in self.listens)

    @property
    def ended(self) -> bool:
        """Whether the listener went away."""
        return self.listens[-1].ended_session


def by_session(listens: Iterable[Listen]) -> list[HeardSession]:
    """Group one listener's listens, given oldest first; the newest session comes first.

    Examples
    --------
    >>> listen = Listen("a:0", 42, 7, 0.5, 1000, "a", 0, True, None, {}, None, None)
    >>> [(session.session_id, session.time, session.ended) for session in by_session([listen])]
    [('a', 0.5, True)]
    """
    sessions: dict[str, list[Listen]] = {}
    for listen in listens:
        sessions.setdefault(listen.session_id, []).append(listen)
    return [HeardSession(session_id, tuple(of)) for session_id, of in reversed(sessions.items())]
