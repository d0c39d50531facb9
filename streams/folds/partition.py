"""All projections of one partition, folded together."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from botify.schemas.events import Session
from botify.streams.folds.feedback import OPINIONS
from botify.streams.folds.likes import UserLikes
from botify.streams.folds.popularity import Popularity, TrackRows
from botify.streams.folds.projection import Changes, Fields, Projection, Record, Scores
from botify.streams.folds.sessions import HALF_LIFE_SESSIONS, Sessions
from botify.streams.folds.users import UserStates

HASHES: Sequence[str] = (*UserStates.hashes, *UserLikes.hashes, *Popularity.hashes, *Sessions.hashes, OPINIONS)
"""Every collection of a partition that is a hash; `OPINIONS` is of a partition of the feedback."""
SCORE_SETS: Sequence[str] = (*UserStates.score_sets, *Popularity.score_sets, *Sessions.score_sets)
"""Every collection of a partition that is a sorted set."""


PROJECTIONS: Sequence[str] = ("users", "likes", "popularity", "sessions")
ALWAYS_FOLDED: Sequence[str] = ("users", "sessions")
"""`users` recognises duplicates, `sessions` knows the event time that decides which listens are accepted."""


class PartitionFold:
    """The state of one partition. `users` comes first: it drops the duplicates for the others.

    A batch goes `missing` → `load` → `fold` → `take_changes` and `take_closed_sessions`. Of `PROJECTIONS`, those in
    `only` are folded, and `ALWAYS_FOLDED`. The folds of a process share `rows`, to save memory. If the store has
    `nothing_stored` of this partition, tracks, which stay in memory, are not read; listeners are, because memory
    forgets them.

    Collections in `score_sets` and `hashes_read_at_claim` are read whole at the claim; then `event_time`, which decides
    which listens are accepted, is valid.
    """

    def __init__(
        self,
        partition: int,
        only: Collection[str] = PROJECTIONS,
        rows: TrackRows | None = None,
        *,
        nothing_stored: bool = False,
        policy_half_life_sessions: float = HALF_LIFE_SESSIONS,
    ) -> None:
        self.users = UserStates()
        self._sessions = Sessions(partition, policy_half_life_sessions=policy_half_life_sessions)
        every: dict[str, Projection] = {
            "users": self.users,
            "likes": UserLikes(),
            "popularity": Popularity(rows, nothing_stored=nothing_stored),
            "sessions": self._sessions,
        }
        self.projections = [p for name, p in every.items() if name in ALWAYS_FOLDED or name in only]
        self.event_time = self._sessions.event_time
        self._fields_of = {name: p for p in self.projections for name in p.hashes}
        self._scores_of = {name: p for p in self.projections for name in p.score_sets}
        self.score_sets: Sequence[str] = tuple(self._scores_of)
        self.hashes_read_at_claim: Sequence[str] = tuple(name for name in Sessions.hashes if name in self._fields_of)

    def missing(self, batch: Sequence[Record]) -> dict[str, list[bytes]]:
        """Return the fields that the batch needs from the store, by hash."""
        return {name: fields for p in self.projections for name, fields in p.missing(batch).items()}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load fields of a hash into its projection."""
        self._fields_of[collection].load_fields(collection, values)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load a sorted set into its projection."""
        self._scores_of[collection].load_scores(collection, values)

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Fold the batch through all projections, and return it without the duplicates."""
        for projection in self.projections:
            batch = projection.fold(batch)
        return batch

    def take_changes(self) -> Changes:
        """Return everything that has changed since the last call."""
        return Changes.merged(projection.changes() for projection in self.projections)

    def erase(self, user: int) -> Changes:
        """Forget a listener, between `take_changes` and the next batch, and return what to remove."""
        return Changes.merged(projection.erase(user) for projection in self.projections)

    def take_closed_sessions(self) -> list[Session]:
        """Return the sessions that have closed since the last call."""
        closed, self._sessions.closed = self._sessions.closed, []
        return closed
