"""One listener: what the state in Redis knows, and the last listens with what led to them."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.events import Listen
from streams.folds.user_state import UserState

SCANNED = 40_000
"""Records of the listener's partition that are looked through, the newest; about 0.1 s."""


@dataclass(frozen=True, slots=True)
class ListenerReading:
    """What is known of a listener.

    Attributes
    ----------
    state : UserState | None
        None for one never heard.
    partition : int
    listens : tuple of Listen
        Oldest first; those among the last `SCANNED` records of the partition.
    """

    user: int
    state: UserState | None
    partition: int
    listens: tuple[Listen, ...]
