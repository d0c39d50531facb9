"""Botify's own recommenders: the folds, the learner and the code that serve, run in process.

Listens pass `ReferenceFold` and `Learner` as a worker's and the learner's batches do, and a recommender answers from
`UserState`, popularity and snapshots of the models, which are taken at each multiple of `Setup.refresh` listens. The
batch job that makes lists runs `Setup.trainings` times along the log.
`botify.evaluation.rankers.pipeline` does the same through topics.

In the pipeline a listener asks after a listen, and is never offered a track of the same session. An evaluation leaves
out all that the user has heard, so longer lists are asked for, and what was heard is taken out of them.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from botify.core.keyed_random import mix
from botify.evaluation.log import Events, Ints, joined
from botify.evaluation.ranker import Histories, Setup, without
from botify.schemas.events import Listen, Model, RecommendationRequest, Track, TrainingBatch
from botify.schemas.training import TrainingColumns
from botify.schemas.validation import MAX_LIST, MAX_TRACK
from botify.services.lists.build import build_models
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.lists import NEIGHBOURS, NO_LISTS, USER_LISTS, Lists, lists_of
from botify.services.recommender.protocol import Batch, rank
from botify.services.recommender.registry import RECOMMENDERS, RecommenderFactory, RecommenderInputs
from botify.streams.folds.likes import LIKES_OF_USERS, Likes
from botify.streams.folds.partition import PROJECTIONS
from botify.streams.folds.popularity import TOP_TRACKS, top_collection
from botify.streams.folds.projection import Record
from botify.streams.folds.reference import ReferenceFold
from botify.streams.folds.users import USERS, UserState
from botify.streams.learner.learner import Learner
from botify.streams.learner.model import MODELS
from botify.streams.learner.models.factors import FactorModel
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import values_of


class MemoryState:
    """The state of all listeners in memory, as a worker folds it: one partition, with the projections in `only`."""

    def __init__(self, only: Collection[str] = PROJECTIONS) -> None:
        self._fold = ReferenceFold(0, only)
        self._hashes: dict[str, dict[bytes, bytes | None]] = {}
        self._scores: dict[str, dict[bytes, float | None]] = {}

    def fold(self, batch: Sequence[Record]) -> None:
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


class MemoryServing:
    """Recommenders, and what they read besides states: popular tracks, lists, and the newest snapshot of each model.

    The service reads them from Redis and a topic; here they are set.
    """

    def __init__(self, tracks: Iterable[Track], lists: Mapping[str, Lists] = MappingProxyType({})) -> None:
        self._factory = RecommenderFactory()
        self.top: Ints = np.zeros(0, dtype=np.int64)
        self.lists = lists
        self._factors: ServedFactors | None = None
        self._next_track: NextTrack | None = None
        inputs = RecommenderInputs(
            top=lambda: self.top,
            neighbours=lambda: self.lists.get(NEIGHBOURS, NO_LISTS),
            user_lists=lambda: self.lists.get(USER_LISTS, NO_LISTS),
            factors=lambda: self._factors,
            next_track=lambda: self._next_track,
        )
        self.recommenders = {one.name: one for one in self._factory.make(Catalogue(tracks), inputs)}

    def serve(self, model: Model) -> None:
        """Replace the last snapshot of the model."""
        if model.name == FactorModel.name:
            self._factors = self._factory.factors(model)
        elif model.name == NextTrack.name:
            self._next_track = self._factory.next_track(model)


NO_SESSION = "none"
NOTHING_HEARD = MAX_TRACK  # the track of a newcomer's request; the catalogue has none of that number


class Listeners:
    """All users of a log as a client of the pipeline has them: listens to send, requests, and what was heard."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._histories = Histories()
        self._last: dict[int, Listen] = {}
        self._asked: Counter[int] = Counter()  # by user, since the last listens
        self.listens = 0

    def hear(self, events: Events) -> list[Listen]:
        """Return the next events as listens."""
        listens = []
        rows = zip(*(column.tolist() for column in events), strict=True)
        for at, (user, item, fraction, time_ms, session, ended) in enumerate(rows, self.listens):
            last, session_id = self._last.get(user), str(session)
            position = last.position + 1 if last is not None and last.session_id == session_id else 0
            listen = Listen(str(at), user, item, fraction, time_ms, session_id, position, ended, None, {}, None, None)
            self._last[user] = listen
            listens.append(listen)
        self._histories.learn(events.users, events.items)
        self.listens += events.size
        self._asked.clear()
        return listens

    def requests(self, users: Ints, times_ms: Ints, k: int, deadline_ms: int = 0) -> list[RecommendationRequest]:
        """Return a request of each user, for lists that are long enough to have k tracks that are new to them.

        An answer has at most `MAX_LIST` tracks, so users who have heard more may get fewer than k.
        """
        size = k if self._setup.repeats else min(k + self._histories.longest(users), self._setup.items, MAX_LIST)
        requests = []
        for user, time_ms in zip(users.tolist(), times_ms.tolist(), strict=True):
            last = self._last.get(user)
            heard: tuple[str, int, int, float] = NO_SESSION, 0, NOTHING_HEARD, 0.0
            if last is not None:
                heard = last.session_id, last.position, last.track, last.fraction
            again = f":{self._asked[user]}" if user in self._asked else ""
            self._asked[user] += 1
            id_ = f"{self._setup.seed}:{user}:{self.listens}{again}"
            requests.append(RecommendationRequest(id_, user, *heard, time_ms, deadline_ms, size))
        return requests

    def new_to(self, users: Ints, lists: NDArray[np.int64], k: int) -> Ints:
        """Return the first k tracks of each list that are new to the user, or any where repeats are allowed, (n, k)."""
        return without(lists, self._histories.excluded(users, repeats=self._setup.repeats), self._setup.items, k)


def note_of(name: str, setup: Setup) -> str:
    """Return how old a recommender's models and lists may be."""
    if RECOMMENDERS[name].needs_lists:
        return f"lists built {setup.trainings} times"
    stale = bool(RECOMMENDERS[name].models) and 1 < setup.refresh < setup.events
    return f"models refreshed every {setup.refresh:,} listens" if stale else ""


class BotifyRanker:
    """One recommender of `RECOMMENDERS` with the state, models and lists that it reads."""

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
        self._serving = MemoryServing(setup.tracks)
        self._recommender = self._serving.recommenders[name]

    def learn(self, events: Events) -> None:
        first = self._listeners.listens
        self._pending += enumerate(self._listeners.hear(events), first)
        if self._learner is not None:
            self._learner.fold(batch_of(first, self._listeners.listens), columns_of(events))
            self._snapshots.update({model.name: model for model in self._learner.take_models()})
        if self._heard is not None:
            self._heard.append(events)

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
            self._serving.top = self._state.top_tracks(TOP_TRACKS)
        for model in self._snapshots.values():
            self._serving.serve(model)
        self._snapshots = {}
        every = -(-self._setup.events // self._setup.trainings)
        if self._heard and self._listeners.listens - self._listed >= every:
            self._listed, heard = self._listeners.listens, joined(self._heard)
            self._heard = [heard]
            self._serving.lists = {model.name: lists_of(model) for model in build_models(heard_of(heard), *LISTS)}

    def _fold(self) -> None:
        if self._pending:
            self._state.fold(self._pending)
            self._pending = []


class NextTrackRanker:
    """`next_track` after each micro-batch, over whole histories; a snapshot would rank alike and cost more."""

    def __init__(self, setup: Setup) -> None:
        self.note = ""
        self._excludes = not setup.repeats
        self._model = NextTrack(seed=setup.seed)

    def learn(self, events: Events) -> None:
        """Hand the events to the model; it takes equal times of a user for a tie, as this evaluation does."""
        self._model.learn(events.users, events.items, values_of(events.fractions), events.times_ms)

    def rank(self, users: Ints, times_ms: Ints, k: int) -> Ints:
        tracks, _ = self._model.rank(users, k, self._excludes, times_ms)
        return tracks


def batch_of(first: int, after: int) -> TrainingBatch:
    """Return what says where a batch belongs; its columns are handed to the learner as arrays."""
    return TrainingBatch("evaluation", 0, first, after, b"", b"", b"", b"", b"", b"", b"")


def columns_of(events: Events) -> TrainingColumns:
    """Return events as a learner takes them."""
    offsets, sessions = np.arange(events.size, dtype=np.uint32), events.sessions.astype(np.uint64)
    heard = events.users, events.items.astype(np.int32), events.fractions, events.times_ms
    nothing = np.zeros(events.size, dtype=np.bool_)
    return TrainingColumns(offsets, *heard, sessions, events.ended, served=nothing, shown=nothing)


LISTS = 50, 50  # neighbours of a track, and tracks of a listener's list: as `botify models publish` makes them


def heard_of(events: Events) -> pd.DataFrame:
    """Return events as the batch job takes them; users of a log may number their sessions alike."""
    columns = {"event_id": np.arange(events.size), "session_id": mix(events.users, events.sessions)}
    columns |= {"user": events.users, "track": events.items, "timestamp_ms": events.times_ms}
    return pd.DataFrame(columns | {"fraction": events.fractions.astype(np.float64)})
