"""`/v1` and its recommenders in memory, with models that learned a made-up log: groups of items, some skips."""

import asyncio
import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from botify.ingest.sample import GROUP_SIZE, GROUPS, write_sample
from botify.schemas.codec import Codec
from botify.schemas.events import Feedback, Listen, Recommendation, RecommendationRequest, Track
from botify.schemas.track_table import TrackTable
from botify.services.gateway.rpc import PendingReply
from botify.services.gateway.service import Fallback
from botify.services.gateway.sessions import RequestId
from botify.services.gateway.state import EventClock, KnownTracks
from botify.services.gateway.v1.feedback_file import Kinds
from botify.services.gateway.v1.models import Recommendations, RecommendationsQuery, Recommended
from botify.services.gateway.v1.recommending import Recommending
from botify.services.recommender.catalogue import Catalogue
from botify.services.recommender.dispatch import Guards, answer
from botify.services.recommender.factors import ServedFactors
from botify.services.recommender.lists import Lists
from botify.services.recommender.protocol import Batch
from botify.services.recommender.registry import RecommenderFactory
from botify.services.recommender.slates import Slates, from_state, with_liked
from botify.streams.folds.feedback import Said
from botify.streams.folds.likes import Likes
from botify.streams.folds.users import UserState
from botify.streams.learner.models.factors import FactorModel, read_factors
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import model_of_snapshot, snapshot_of
from tests.learning import FinishedSession, learn_sessions
from tests.unit.services.gateway.fakes import MemoryListenerStore
from tests.unit.services.recommender.recommending import NO_INPUTS

ITEMS = GROUPS * GROUP_SIZE
NEW = 6
"""Items of the first groups that nobody has heard."""
GAP_MS = 30 * 60 * 1000
TRACKS = {
    item: Track(item, f"artist {group}", None, f"genre {group % 4}", f"track {item}")
    for item in range(ITEMS + NEW)
    for group in [item // GROUP_SIZE if item < ITEMS else item - ITEMS]
}
CATALOGUE = Catalogue(TRACKS.values())
TOP = np.arange(0, ITEMS, 7)[:40]
NEIGHBOURS = {
    item: [item - item % GROUP_SIZE + (item + step) % GROUP_SIZE for step in (1, 2, 3)] for item in range(ITEMS)
}
CODEC = Codec()


class Log(NamedTuple):
    """A made-up log: listens in order, and the sessions of each user."""

    listens: list[Listen]
    sessions: list[FinishedSession]

    @property
    def now_ms(self) -> int:
        return self.listens[-1].timestamp_ms + 60_000


@cache
def made_up_log() -> Log:
    """Read the log, and draw how much was heard of each item."""
    with TemporaryDirectory() as place:
        write_sample(Path(place) / "log.csv", 0)
        rows = list(csv.DictReader((Path(place) / "log.csv").read_text(encoding="utf-8").splitlines()))
    fractions = np.random.default_rng(0).choice([1.0, 0.7, 0.1], len(rows), p=[0.6, 0.25, 0.15])
    listens: list[Listen] = []
    last: dict[int, Listen] = {}
    sessions = defaultdict(list)
    for at, (row, fraction) in enumerate(zip(rows, fractions.tolist(), strict=True)):
        user, item, time_ms = int(row["user"].split()[1]), int(row["item"].split()[1]), int(row["time"]) * 1000
        before = last.get(user)
        ended = before is None or time_ms - before.timestamp_ms > GAP_MS
        session, position = (f"s{at}", 0) if before is None or ended else (before.session_id, before.position + 1)
        last[user] = Listen(f"e{at}", user, item, fraction, time_ms, session, position, False, None, {}, None, None)
        listens.append(last[user])
        sessions[session].append((item, fraction))
    finished = [FinishedSession(*map(np.array, zip(*heard, strict=True))) for heard in sessions.values()]
    return Log(listens, [one._replace(fractions=one.fractions.astype(np.float32)) for one in finished])


class Learned(NamedTuple):
    """Models, as the learner and as recommenders have them."""

    next_track: NextTrack
    factors: ServedFactors


@cache
def learned() -> Learned:
    log, next_track, factors = made_up_log(), NextTrack(), FactorModel(TRACKS)
    columns = zip(*((one.user, one.track, one.fraction, one.timestamp_ms) for one in log.listens), strict=True)
    next_track.learn(*map(list, columns))
    learn_sessions(factors, log.sessions)
    served = ServedFactors(read_factors(factors.snapshot()))
    return Learned(model_of_snapshot(snapshot_of(next_track, 1 << 24).body), served)


class Listener(NamedTuple):
    heard: Sequence[Listen] = ()
    said: Sequence[Said] = ()

    @property
    def liked(self) -> list[int]:
        return [track for _, track, kind in self.said if kind == "like"]


class MadeUp:
    """A gateway whose requests the recommenders answer at once; listener n is the n-th of those given."""

    def __init__(self, wanted: str, listeners: Sequence[Listener]) -> None:
        self.wanted, self.models, self.now_ms = wanted, learned(), made_up_log().now_ms
        self.listeners, self.store = [Listener(one.heard) for one in listeners], MemoryListenerStore()
        self.folded = [(state_of_listens(one.heard), likes_of_listens(one.heard)) for one in listeners]
        self.runner = asyncio.Runner()
        rng = np.random.default_rng(0)
        own = np.array([rng.permutation(ITEMS)[:20] for _ in listeners])
        inputs = replace(
            NO_INPUTS,
            top=lambda: TOP,
            neighbours=lambda: Lists(np.arange(ITEMS), np.array(list(NEIGHBOURS.values()))),
            user_lists=lambda: Lists(np.arange(len(listeners)), own),
            factors=lambda: self.models.factors,
            next_track=lambda: self.models.next_track,
        )
        self.recommenders = {one.name: one for one in RecommenderFactory(Guards()).make(CATALOGUE, inputs)}
        self.slates = Slates(CATALOGUE, TRACKS, lambda: TOP, lambda name: {name: 7})
        table = TrackTable(CODEC)
        table.add(list(TRACKS.values()), [CODEC.encode(track) for track in TRACKS.values()])
        service: Any = SimpleNamespace(
            clock=EventClock(1, lambda: self.now_ms / 1000),
            deadline_ms=1_000,
            rpc=self,
            codec=CODEC,
            tracks=KnownTracks(SimpleNamespace(tracks=table)),  # type: ignore[arg-type]
            fallback=Fallback(lambda: TOP.tolist(), lambda: TRACKS, lambda _: {}),
        )
        for user, listener in enumerate(listeners):
            self.say(user, listener.said)
        self.gateway = Recommending(service, self.store, Kinds.of(None))

    def say(self, user: int, said: Sequence[Said]) -> None:
        """Let a listener like or dislike something, from the next call on."""
        for at_ms, track, kind in said:
            self.store.fold(Feedback("f", user, track, kind, at_ms))
        before = self.listeners[user]
        self.listeners[user] = before._replace(said=[*before.said, *said])

    def answer(self, user: int, request_id: str = "r", filters: Sequence[str] = (), n: int = 10) -> list[Recommended]:
        query = RecommendationsQuery(n=n, filter=list(filters), explain=True)  # type: ignore[arg-type]
        answered = self.runner.run(self.gateway.recommend(user, user, query, RequestId(request_id)))
        assert not answered.fallback
        return Recommendations.model_validate_json(answered.body).items

    def ask(self, request: RecommendationRequest) -> PendingReply:
        state, likes = self.folded[request.user]
        state = with_liked(request, state)
        batch = Batch.of([from_state(request, state)], [state], [likes])
        found = answer(batch, [self.wanted], self.recommenders, slates=self.slates)
        one = Recommendation(
            request.request_id, request.user, int(found.tracks[0]), found.recommenders[0], {},
            float(found.propensities[0]), 0, 1.0, request.timestamp_ms, found.policies[0], slate=found.slates[0],
        )  # fmt: skip
        future: PendingReply = asyncio.get_running_loop().create_future()
        future.set_result(one)
        return future


def state_of_listens(listens: Sequence[Listen]) -> UserState | None:
    state = UserState()
    for listen in listens:
        state.fold(listen)
    return state if listens else None


def likes_of_listens(listens: Sequence[Listen]) -> Likes:
    likes = Likes()
    for listen in listens:
        likes.fold(listen)
    return likes


def heard_by(user: int, most: int = 50) -> list[Listen]:
    return [one for one in made_up_log().listens if one.user == user][:most]
