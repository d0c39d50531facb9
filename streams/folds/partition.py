"""The state of a partition: where it is in the store, and what a fold of it does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from botify.schemas.event_time import EventTime
from botify.schemas.events import SHOWN, Session
from botify.streams.folds.feedback import ATTRIBUTES, NAMES, OPINIONS
from botify.streams.folds.likes import LIKES_OF_USERS
from botify.streams.folds.popularity import POPULARITY, TOPS
from botify.streams.folds.projection import Changes, Fields, Scores
from botify.streams.folds.sessions import OPEN_SESSIONS
from botify.streams.folds.users import USERS

HASHES: Sequence[str] = (USERS, LIKES_OF_USERS, POPULARITY, OPEN_SESSIONS, OPINIONS, SHOWN, NAMES, ATTRIBUTES)
"""Every collection of a partition that is a hash; the last four are of a partition of the feedback."""
FORMER_HASHES: Sequence[str] = ("policy-results",)  # those of earlier versions: only who deletes a partition names them
SCORE_SETS: Sequence[str] = TOPS  # every collection of a partition that is a sorted set

PROJECTIONS: Sequence[str] = ("users", "likes", "popularity", "sessions")
ALWAYS_FOLDED: Sequence[str] = ("users", "sessions")
"""`users` recognises duplicates, `sessions` knows the event time that decides which listens are accepted."""


class Fold(Protocol):
    """The state of one partition: a pure function of its records in order, whatever the batches are.

    A batch goes `missing` → (the caller reads) → `load_fields` → `fold` → `take_changes` and `take_closed_sessions`.
    Collections in `score_sets` and `hashes_read_at_claim` are read whole at the claim; then `event_time`, which decides
    which listens are accepted, is valid. `duplicates` counts listens whose event id the listener's history had.
    """

    duplicates: int
    event_time: EventTime
    score_sets: Sequence[str]
    hashes_read_at_claim: Sequence[str]

    def missing(self, batch: Any) -> Mapping[str, list[bytes]]:
        """Return the fields that the batch needs and memory lacks, by hash."""

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load fields of a hash; None if the store lacks them."""

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load a sorted set."""

    def fold(self, batch: Any) -> Any:
        """Fold the batch, and return it without the duplicates."""

    def take_changes(self) -> Changes:
        """Return everything that has changed since the last call."""

    def erase(self, user: int) -> Changes:
        """Forget a listener, between `take_changes` and the next batch, and return what to remove."""

    def take_closed_sessions(self) -> list[Session]:
        """Return the sessions that have closed since the last call."""
