"""Botify's own recommenders: the folds, the learner and the code that serve, run in process.

Listens pass `PartitionFold` and `Learner` as a worker's and the learner's batches do, and a recommender answers from
`UserState`, popularity and snapshots of the models, which are taken at each multiple of `Setup.refresh` listens. The
batch job that makes lists runs `Setup.trainings` times along the log.
`botify.evaluation.rankers.pipeline` does the same through topics.
"""

from __future__ import annotations

import numpy as np

from botify.core.keyed_random import mix
from botify.evaluation.log import Events, Ints, joined
from botify.evaluation.ranker import Setup
from botify.evaluation.rankers.listeners import Listeners
from botify.evaluation.state import MemoryModels, MemoryState
from botify.schemas.events import Listen, Model, TrainingBatch
from botify.schemas.training import TrainingColumns
from botify.services.lists.build import build_models
from botify.services.lists.neighbours import ListenColumns
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import rank
from botify.services.recommender.lists import NEIGHBOURS, NO_LISTS, USER_LISTS, Lists, lists_of
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from botify.streams.folds.popularity import TOP_TRACKS
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import values_of


def note_of(name: str, setup: Setup) -> str:
    """Return how old a recommender's models and lists may be."""
    if RECOMMENDERS[name].needs_lists:
        return f"lists built {setup.trainings} times"
    stale = bool(RECOMMENDERS[name].models) and 1 < setup.refresh < setup.events
    return f"models refreshed every {setup.refresh:,} listens" if stale else ""


class BotifyRanker:
    """One recommender with all that it rests on.

    Parameters
    ----------
    name : str
        In `RECOMMENDERS`.
    """

    def __init__(self, name: str, setup: Setup) -> None:
        kinds = [kind for kind in MODELS if kind.name in RECOMMENDERS[name].models]
        self.note = note_of(name, setup)
        self._setup = setup
        self._folds_when_refreshed = name == "toppop"  # popularity is all it reads, and costs least in long runs
        # likes are of tracks that were heard, which are left out
        self._state = MemoryState(only=("popularity",) if name == "toppop" else ("likes",) if setup.repeats else ())
        self._pending: list[tuple[int, Listen]] = []
        catalogue = {track.track: track for track in setup.tracks}
        self._learner = Learner(catalogue, kinds, setup.refresh) if kinds else None
        self._snapshots: dict[str, Model] = {}
        self._listeners = Listeners(setup)
        self._refreshed = self._listed = 0
        self._heard: list[Events] | None = [] if RECOMMENDERS[name].needs_lists else None
        self._lists: dict[str, Lists] = {}
        self._top: Ints = np.zeros(0, dtype=np.int64)
        factory = RecommenderFactory()
        self._models = models = MemoryModels(factory)
        inputs = RecommenderInputs(
            top=lambda: self._top,
            neighbours=lambda: self._lists.get(NEIGHBOURS, NO_LISTS),
            user_lists=lambda: self._lists.get(USER_LISTS, NO_LISTS),
            factors=lambda: models.factors,
            graph=lambda: models.graph,
            next_track=lambda: models.next_track,
            policy_results=dict,
        )
        made = {one.name: one for one in factory.make(Catalogue(setup.tracks), inputs)}
        self._recommender = made[name]

    def learn(self, events: Events) -> None:
        """Fold the events as listens, and learn from them."""
        first = self._hear(events)
        if self._learner is not None:
            self._learner.fold(batch_of(first, self._listeners.listens), columns_of(events))
            self._snapshots.update({model.name: model for model in self._learner.take_models()})
        if self._heard is not None:
            self._heard.append(events)

    def _hear(self, events: Events) -> int:
        """Take the events for the state of the listeners; return the offset of the first."""
        first = self._listeners.listens
        self._pending += enumerate(self._listeners.hear(events), first)
        return first

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Rank for each user as after the last listen."""
        self._refresh()
        if not self._folds_when_refreshed:
            self._fold()
        states, likes = self._state.users_and_likes(users.tolist())
        requests = self._listeners.requests(users, times_ms, k)
        size = requests[0].list_size or k
        return self._listeners.new_to(users, rank(self._recommender, Batch.of(requests, states, likes), size).tracks, k)

    def _refresh(self) -> None:
        """Let the recommender see the newest snapshots, and popularity if it is `Setup.refresh` listens old or more."""
        if self._folds_when_refreshed and self._listeners.listens - self._refreshed >= self._setup.refresh:
            self._refreshed = self._listeners.listens
            self._fold()
            self._top = self._state.top_tracks(TOP_TRACKS)
        for model in self._snapshots.values():
            self._models.serve(model)
        self._snapshots = {}
        every = -(-self._setup.events // self._setup.trainings)
        if self._heard and self._listeners.listens - self._listed >= every:
            self._listed, heard = self._listeners.listens, joined(self._heard)
            self._heard = [heard]
            self._lists = {model.name: lists_of(model) for model in build_models(heard_of(heard), *LISTS)}

    def _fold(self) -> None:
        if self._pending:
            self._state.fold(self._pending)
            self._pending = []


class NextTrackRanker:
    """`next_track` as it is after each micro-batch: a snapshot ranks alike, and one a micro-batch would cost much.

    It ranks whole histories. The service has the last listens of a listener, see `services.recommender.next_track`.
    """

    def __init__(self, setup: Setup) -> None:
        self.note = ""
        self._excludes = not setup.repeats
        self._model = NextTrack(seed=setup.seed)

    def learn(self, events: Events) -> None:
        """Hand the events to the model; it takes equal times of a user for a tie, as this evaluation does."""
        self._model.learn(events.users, events.items, values_of(events.fractions), events.times_ms)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        """Return what the model ranks first."""
        tracks, _ = self._model.rank(users, k, self._excludes, times_ms)
        return tracks

    def rank_then_learn(self, users: Ints, times_ms: Ints, starts: Ints, events: Events, k: int) -> Ints:
        """Rank and learn in turns."""
        columns = events.users, events.items, values_of(events.fractions), events.times_ms
        return self._model.rank_then_learn(users, starts, *columns, k, self._excludes, times_ms)


def batch_of(first: int, after: int) -> TrainingBatch:
    """Return what says where a batch belongs; its columns are handed to the learner as arrays."""
    return TrainingBatch("evaluation", 0, first, after, b"", b"", b"", b"", b"", b"", b"")


def columns_of(events: Events) -> TrainingColumns:
    """Return events as a learner takes them."""
    return TrainingColumns(
        np.arange(events.size, dtype=np.uint32),
        events.users,
        events.items.astype(np.int32),
        events.fractions,
        events.times_ms,
        events.sessions.astype(np.uint64),
        events.ended,
    )


LISTS = 50, 50
"""Neighbours of a track, and tracks of a listener's list: as `botify lists build` makes them."""


def heard_of(events: Events) -> ListenColumns:
    """Return events as the batch job takes them; users of a log may number their sessions alike."""
    numbers, sessions = np.arange(events.size, dtype=np.uint64), mix(events.users, events.sessions)
    fractions = events.fractions.astype(np.float64)
    return ListenColumns(numbers, sessions, events.users, events.items, fractions, events.times_ms)
