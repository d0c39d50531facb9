"""What recommenders read, in memory: the state of all listeners, as a worker folds it, and snapshots of the models."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from botify.schemas.events import Model
from botify.services.recommender.candidates import ServedGraph
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.registry import RecommenderFactory
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.partition import PROJECTIONS, PartitionFold
from botify.streams.folds.popularity import top_collection
from botify.streams.folds.projection import Record
from botify.streams.folds.sessions import HALF_LIFE_SESSIONS, POLICY_RESULTS, PolicyResult
from botify.streams.folds.users import USERS, UserState
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.item_graph import ItemGraph
from botify.streams.learner.models.next_track import NextTrack


class MemoryState:
    """One partition that has every listener.

    Parameters
    ----------
    only : collection of str
        Names of the projections to fold, see `PartitionFold`.
    """

    def __init__(self, only: Collection[str] = PROJECTIONS) -> None:
        # as long as that of eight partitions together
        self._fold = PartitionFold(0, only, policy_half_life_sessions=8 * HALF_LIFE_SESSIONS)
        self._hashes: dict[str, dict[bytes, bytes | None]] = {}
        self._scores: dict[str, dict[bytes, float | None]] = {}

    def fold(self, batch: Sequence[Record]) -> None:
        """Take listens in."""
        fold = self._fold
        for name, fields in fold.missing(batch).items():
            stored = self._hashes.get(name, {})
            fold.load_fields(name, {field: stored.get(field) for field in fields})
        fold.fold(batch)
        fold.take_closed_sessions()
        changes = fold.take_changes()
        for name, changed in changes.hashes.items():
            self._hashes.setdefault(name, {}).update(changed)
        for name, scores in changes.scores.items():
            self._scores.setdefault(name, {}).update(scores)

    def users_and_likes(self, users: Sequence[int]) -> tuple[list[UserState | None], list[Likes | None]]:
        """Return the states of listeners, and what they like."""
        states, likes = self._hashes.get(USERS, {}), self._hashes.get(LIKES_OF_USERS, {})
        keys = [b"%d" % user for user in users]
        return (
            [UserState.from_bytes(record) if (record := states.get(key)) else None for key in keys],
            [Likes.from_bytes(record) if (record := likes.get(key)) else None for key in keys],
        )

    def top_tracks(self, count: int) -> NDArray[np.int64]:
        """Return the most popular tracks, best first."""
        scores = self._scores.get(top_collection("1d"), {})
        ranked = sorted((-score, int(track)) for track, score in scores.items() if score is not None)
        return np.array([track for _, track in ranked[:count]], dtype=np.int64)

    def policy_results(self) -> dict[str, PolicyResult]:
        """Return what sessions under each policy came to."""
        found = self._hashes.get(POLICY_RESULTS, {})
        return {policy.decode(): PolicyResult.from_bytes(record) for policy, record in found.items() if record}


class MemoryModels:
    """The newest snapshot of each model, from a learner in the same process; the service reads them from a topic.

    Parameters
    ----------
    factory : RecommenderFactory
        Prepares snapshots for its catalogue.
    """

    def __init__(self, factory: RecommenderFactory) -> None:
        self._factory = factory
        self.factors: ServedFactors | None = None
        self.graph: ServedGraph | None = None
        self.next_track: NextTrack | None = None

    def serve(self, model: Model) -> None:
        """Replace the last snapshot of the model."""
        if model.name == FactorModel.name:
            self.factors = self._factory.factors(model)
        elif model.name == ItemGraph.name:
            self.graph = self._factory.graph(model)
        elif model.name == NextTrack.name:
            self.next_track = self._factory.next_track(model)
