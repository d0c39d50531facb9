"""All projections of one partition over columns; `PartitionFold` states the same listen by listen."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from botify.schemas.events import Session
from botify.schemas.listen_columns import ListenColumns
from botify.streams.folds.columns.kernels import Listens
from botify.streams.folds.columns.listeners import Listeners
from botify.streams.folds.columns.popularity import ColumnPopularity
from botify.streams.folds.columns.sessions import SessionColumns
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.popularity import Popularity, TrackRows
from botify.streams.folds.projection import Changes, Fields, Scores
from botify.streams.folds.sessions import HALF_LIFE_SESSIONS


class ColumnFold:
    """The state of one partition; methods and attributes as of `PartitionFold`."""

    def __init__(
        self,
        partition: int,
        only: Collection[str] = PROJECTIONS,
        rows: TrackRows | None = None,
        *,
        nothing_stored: bool = False,
        policy_half_life_sessions: float = HALF_LIFE_SESSIONS,
    ) -> None:
        self.users = Listeners(with_likes="likes" in only)
        self._sessions = SessionColumns(partition, policy_half_life_sessions)
        self._with_likes = "likes" in only
        self._popularity = ColumnPopularity(rows, nothing_stored=nothing_stored) if "popularity" in only else None
        self.event_time = self._sessions.event_time
        self.score_sets: Sequence[str] = Popularity.score_sets if self._popularity else ()
        self.hashes_read_at_claim: Sequence[str] = SessionColumns.hashes

    def missing(self, listens: ListenColumns) -> dict[str, list[bytes]]:
        """Return the fields that the listens need from the store, by hash."""
        missing = self.users.missing(listens.users)
        if self._popularity is not None:
            missing.update(self._popularity.missing_tracks(listens.tracks))
        return missing

    def load_fields(self, collection: str, values: Fields) -> None:
        """Load fields of a hash into its projection."""
        if collection in SessionColumns.hashes:
            self._sessions.load_fields(collection, values)
        elif collection in Popularity.hashes and self._popularity is not None:
            self._popularity.load_fields(collection, values)
        else:
            self.users.load_fields(collection, values)

    def load_scores(self, collection: str, values: Scores) -> None:
        """Load a sorted set into its projection."""
        if self._popularity is not None:
            self._popularity.load_scores(collection, values)

    def fold(self, listens: ListenColumns) -> ListenColumns:
        """Fold the listens that `missing` was given, and return those that are no duplicates."""
        kept = self.users.fold(_for_kernels(listens))
        if not kept.all():
            listens = listens.of(kept)
        columns = _for_kernels(listens)
        if self._with_likes:
            self.users.fold_likes(columns, kept)
        if self._popularity is not None:
            self._popularity.add(listens.tracks, listens.fractions, listens.timestamps_ms)
        self._sessions.fold(listens, columns)
        return listens

    def take_changes(self) -> Changes:
        """Return everything that has changed since the last call."""
        projections = (self.users, self._popularity, self._sessions)
        return Changes.merged(projection.changes() for projection in projections if projection is not None)

    def erase(self, user: int) -> Changes:
        """Forget a listener, between `take_changes` and the next batch, and return what to remove."""
        return Changes.merged([self.users.erase(user), self._sessions.erase(user)])

    def take_closed_sessions(self) -> list[Session]:
        """Return the sessions that have closed since the last call."""
        closed, self._sessions.closed = self._sessions.closed, []
        return closed


def _for_kernels(listens: ListenColumns) -> Listens:
    return Listens(*(getattr(listens, name) for name in Listens._fields))
