"""All projections of one partition over columns; `ReferenceFold` states the same listen by listen."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from botify.schemas.events import Session
from botify.schemas.listen_columns import ListenColumns
from botify.streams.folds.columns.kernels import Listens
from botify.streams.folds.columns.listeners import Listeners
from botify.streams.folds.columns.popularity import Popularity
from botify.streams.folds.columns.sessions import SessionColumns
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.popularity import POPULARITY, TOPS, TrackRows
from botify.streams.folds.projection import Changes, Fields, Scores
from botify.streams.folds.sessions import OPEN_SESSIONS


class ColumnFold:
    """A `Fold` of columns of listens. If the store has `nothing_stored` of this partition, tracks are not read."""

    hashes_read_at_claim: Sequence[str] = (OPEN_SESSIONS,)

    def __init__(
        self,
        partition: int,
        only: Collection[str] = PROJECTIONS,
        rows: TrackRows | None = None,
        *,
        nothing_stored: bool = False,
    ) -> None:
        self.duplicates = 0
        self._users = Listeners(with_likes="likes" in only)
        self._sessions = SessionColumns(partition)
        self._with_likes = "likes" in only
        self._popularity = Popularity(rows, nothing_stored=nothing_stored) if "popularity" in only else None
        self.event_time = self._sessions.event_time
        self.score_sets: Sequence[str] = TOPS if self._popularity else ()

    def missing(self, listens: ListenColumns) -> dict[str, list[bytes]]:
        missing = self._users.missing(listens.users)
        if self._popularity is not None:
            missing.update(self._popularity.missing(listens.tracks))
        return missing

    def load_fields(self, collection: str, values: Fields) -> None:
        if collection == OPEN_SESSIONS:
            self._sessions.load_fields(values)
        elif collection == POPULARITY and self._popularity is not None:
            self._popularity.load_fields(values)
        else:
            self._users.load_fields(collection, values)

    def load_scores(self, collection: str, values: Scores) -> None:
        if self._popularity is not None:
            self._popularity.load_scores(collection, values)

    def fold(self, listens: ListenColumns) -> ListenColumns:
        kept = self._users.fold(_for_kernels(listens))
        self.duplicates += len(kept) - int(kept.sum())
        if not kept.all():
            listens = listens.of(kept)
        columns = _for_kernels(listens)
        if self._with_likes:
            self._users.fold_likes(columns, kept)
        if self._popularity is not None:
            self._popularity.add(listens.tracks, listens.fractions, listens.timestamps_ms)
        self._sessions.fold(listens, columns)
        return listens

    def take_changes(self) -> Changes:
        of = (self._users, self._popularity, self._sessions)
        return Changes.merged(one.changes() for one in of if one is not None)

    def erase(self, user: int) -> Changes:
        return Changes.merged([self._users.erase(user), self._sessions.erase(user)])

    def take_closed_sessions(self) -> list[Session]:
        closed, self._sessions.closed = self._sessions.closed, []
        return closed


def _for_kernels(listens: ListenColumns) -> Listens:
    return Listens(*(getattr(listens, name) for name in Listens._fields))
