"""Botify's own recommenders: the folds, the learner and the code that serve, run in process.

Listens pass `PartitionFold` and `Learner` as a worker's and the learner's batches do, and a recommender answers from
`UserState`, popularity and snapshots of the models. The snapshots are `Setup.refresh` listens old at most.

In the pipeline a listener asks after a listen, and is never offered a track of the same session. An evaluation leaves
out all that the user has heard, so that more is ranked, and what was heard is taken out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from evaluation import EvaluationError
from evaluation.log import Events, Ints
from evaluation.ranker import Histories, Setup, compressed, without
from evaluation.state import MemoryState
from schemas.events import Listen, RecommendationRequest, TrainingBatch
from schemas.training import TrainingColumns
from services.recommender.candidates import ServedGraph
from services.recommender.catalogue import Catalogue
from services.recommender.factors import ServedFactors
from services.recommender.lists import NO_LISTS
from services.recommender.protocol import NO_ANSWER, Batch, Ranker
from services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from streams.folds.popularity import TOP_TRACKS
from streams.folds.users import UserState
from streams.learner.learner import Learner
from streams.learner.model import MODELS, OnlineModel
from streams.learner.models.factors import FactorModel
from streams.learner.models.item_graph import ItemGraph
from streams.learner.models.next_track import NextTrack

NEEDS: dict[str, Sequence[type[OnlineModel]]] = {
    "random": (),
    "toppop": (),
    "i2i_stream": (ItemGraph,),
    "fism": (FactorModel,),
}
"""Models that a recommender serves from; all of `MODELS` for one that is not listed."""


class BotifyRanker:
    """One recommender with all that it rests on.

    Parameters
    ----------
    name : str
        In `RECOMMENDERS`.
    setup : Setup

    Raises
    ------
    EvaluationError
        The recommender cannot rank.
    """

    def __init__(self, name: str, setup: Setup) -> None:
        check_can_rank(name)
        kinds = NEEDS.get(name, MODELS)
        self.note = f"models refreshed every {setup.refresh:,} listens" if kinds and setup.refresh > 1 else ""
        self._setup = setup
        self._folds_when_refreshed = name == "toppop"  # popularity is all it reads, and costs least in long runs
        self._state = MemoryState(only=("popularity",) if name == "toppop" else ())
        self._pending: list[tuple[int, Listen]] = []
        self._learner = Learner({track.track: track for track in setup.tracks}, kinds) if kinds else None
        self._histories = Histories()
        self._learned = self._refreshed = 0
        self._top: Ints = np.zeros(0, dtype=np.int64)
        self._graph: ServedGraph | None = None
        self._factors: ServedFactors | None = None
        self._factory = RecommenderFactory()
        self._positions: dict[int, tuple[int, int]] = {}
        inputs = RecommenderInputs(
            top=lambda: self._top,
            neighbours=lambda: NO_LISTS,
            user_lists=lambda: NO_LISTS,
            factors=lambda: self._factors,
            graph=lambda: self._graph,
            policy_results=dict,
        )
        made = {one.name: one for one in self._factory.make(Catalogue(setup.tracks), inputs)}
        self._ranker = cast(Ranker, made[name])

    def learn(self, events: Events) -> None:
        """Fold the events as listens, and learn from them."""
        first, self._learned = self._learned, self._learned + events.size
        self._pending += enumerate(self._listens(events, first), first)
        self._histories.learn(events.users, events.items)
        if self._learner is not None:
            self._learner.fold(_batch(first, self._learned), _columns(events))

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank for each user as after the last listen."""
        self._refresh()
        if not self._folds_when_refreshed:
            self._fold()
        most = k if self._setup.repeats else min(k + self._histories.longest(users), self._setup.items)
        states, _ = self._state.users_and_likes(users.tolist())
        requests = [
            _request(f"{self._setup.seed}:{user}:{self._learned}", user, state, time_ms)
            for user, state, time_ms in zip(users.tolist(), states, times_ms.tolist(), strict=True)
        ]
        lists = self._ranker.rank(Batch.of(requests, states), most).tracks
        if self._setup.repeats:
            return compressed(lists != NO_ANSWER, lists, k)
        return without(lists, self._histories.of(users), self._setup.items, k)

    def _refresh(self) -> None:
        """Let the recommender see what was learned, if that is `Setup.refresh` listens or more."""
        if self._learned - self._refreshed < self._setup.refresh:
            return
        self._refreshed = self._learned
        if self._folds_when_refreshed:
            self._fold()
            self._top = self._state.top_tracks(TOP_TRACKS)
        if self._learner is None:
            return
        self._learner.take_models()  # taken when due; the one now is newer
        self._learner.take_snapshots()
        for model in self._learner.take_models():
            if model.name == FactorModel.name:
                self._factors = self._factory.factors(model)
            elif model.name == ItemGraph.name:
                self._graph = self._factory.graph(model)

    def _fold(self) -> None:
        if self._pending:
            self._state.fold(self._pending)
            self._pending = []

    def _listens(self, events: Events, first: int) -> list[Listen]:
        listens = []
        rows = zip(*(column.tolist() for column in events), strict=True)
        for at, (user, item, fraction, time_ms, session, ended) in enumerate(rows, first):
            last, position = self._positions.get(user, (-1, 0))
            position = position + 1 if last == session else 0
            self._positions[user] = session, position
            listens.append(
                Listen(str(at), user, item, fraction, time_ms, str(session), position, ended, None, {}, None, None)
            )
        return listens


class NextTrackRanker:
    """`next_track` as it is after each micro-batch: it is not served yet, so there is no snapshot in between."""

    def __init__(self, setup: Setup) -> None:
        self.note = ""
        self._excludes = not setup.repeats
        self._model = NextTrack(seed=setup.seed)

    def learn(self, events: Events) -> None:
        """Hand the events to the model; it takes equal times of a user for a tie, as this evaluation does."""
        self._model.learn(events.users, events.items, events.fractions, events.times_ms)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Return what the model ranks first."""
        tracks, _ = self._model.rank(users, k, exclude_history=self._excludes)
        return tracks

    def rank_then_learn(self, users: Ints, starts: Ints, events: Events, k: int) -> Ints:
        """Rank and learn in turns."""
        columns = events.users, events.items, events.fractions, events.times_ms
        return self._model.rank_then_learn(users, starts, *columns, k, exclude_history=self._excludes)


def _request(request_id: str, user: int, state: UserState | None, time_ms: int) -> RecommendationRequest:
    """Return the request that follows the user's last listen; for a newcomer, one whose track does not exist."""
    if state is None:
        return RecommendationRequest(request_id, user, "", 0, NO_ANSWER, 0.0, time_ms, 0)
    last = state.last_listens()[-1]
    position = state.session_listens - 1
    return RecommendationRequest(
        request_id, user, state.session_id, position, int(last["track"]), float(last["fraction"]), time_ms, 0
    )


def _batch(first: int, after: int) -> TrainingBatch:
    """Return what says where a batch belongs; its columns are handed to the learner as arrays."""
    return TrainingBatch("evaluation", 0, first, after, b"", b"", b"", b"", b"", b"", b"")


def _columns(events: Events) -> TrainingColumns:
    return TrainingColumns(
        np.arange(events.size, dtype=np.uint32),
        events.users,
        events.items.astype(np.int32),
        events.fractions,
        events.times_ms,
        events.sessions.astype(np.uint64),
        events.ended,
    )


def evaluable() -> Sequence[str]:
    """Return the recommenders that can be evaluated."""
    return [name for name, entry in RECOMMENDERS.items() if hasattr(entry.recommender, "rank")]


def check_can_rank(name: str) -> None:
    """Refuse a recommender without `rank`.

    Raises
    ------
    EvaluationError
    """
    if name not in evaluable():
        able = ", ".join(evaluable())
        raise EvaluationError(
            f"recommender {name!r} draws single tracks and has no method `rank`; to be evaluated are {able}"
        )
