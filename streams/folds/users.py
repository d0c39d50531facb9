"""Projection `users`: a hash from user id to `UserState` record. Drops duplicate events for all after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from streams.folds.cache import GenerationCache
from streams.folds.projection import Changes, Fields, Record, Scores
from streams.folds.user_state import UserState

USERS = "users"


class Users:
    """States of the listeners of one partition.

    Parameters
    ----------
    cache_size : int
        States kept in memory; a listener beyond it costs a read.

    Attributes
    ----------
    duplicates : int
        Events dropped because their listener's history had their id already.
    """

    hashes: Sequence[str] = (USERS,)
    score_sets: Sequence[str] = ()

    def __init__(self, cache_size: int = 50_000) -> None:
        self._cache = GenerationCache[int, UserState](cache_size)
        self._batch: dict[int, UserState] = {}
        self.duplicates = 0

    def missing(self, batch: Sequence[Record]) -> Mapping[str, list[bytes]]:
        """Return the users of the batch that are not in the cache."""
        missing = []
        for user in {listen.user for _, listen in batch}:
            state = self._cache.get(user)
            if state is None:
                missing.append(b"%d" % user)
            else:
                self._batch[user] = state
        return {USERS: missing} if missing else {}

    def load_fields(self, collection: str, values: Fields) -> None:
        """Take in the states that were missing; a listener never seen starts empty."""
        for user, record in values.items():
            state = UserState() if record is None else UserState.from_bytes(record)
            self._batch[int(user)] = self._cache[int(user)] = state

    def load_scores(self, collection: str, values: Scores) -> None:
        """There are none."""

    def fold(self, batch: Sequence[Record]) -> Sequence[Record]:
        """Fold the batch and return it without the duplicates."""
        states = self._batch
        kept = [record for record in batch if states[record[1].user].fold(record[1])]
        self.duplicates += len(batch) - len(kept)
        return kept

    def changes(self) -> Changes:
        """Return the records of the listeners of the batch."""
        fields = {b"%d" % user: state.to_bytes() for user, state in self._batch.items()}
        self._batch = {}
        return Changes(hashes={USERS: fields})
