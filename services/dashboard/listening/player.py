"""Who is asked for the next track, by whoever is a listener on the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from schemas.errors import BotifyError


class PlayerError(BotifyError):
    """The gateway has no track for the listener; the message says what it said."""


class Recommended(NamedTuple):
    """A track, and why it was chosen.

    Attributes
    ----------
    recommender : str | None
        Who chose it; None where that is not known.
    latency_ms : float | None
        From the listener's request to the answer.
    """

    track: int
    recommender: str | None = None
    policy: str | None = None
    propensity: float | None = None
    candidates: int | None = None
    treatments: Mapping[str, str] = {}
    latency_ms: float | None = None


class Player(Protocol):
    """Plays to one listener at a time. Both methods raise `PlayerError`."""

    async def next(self, user: int, track: int, fraction: float) -> Recommended:
        """Tell what the listener heard, and return what comes next."""

    async def last(self, user: int, track: int, fraction: float) -> None:
        """Tell the last listen of the session."""
