"""A gateway without servers: topics with canned replies, sessions in memory."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import httpx
import numpy as np
from starlette.applications import Starlette
from starlette.testclient import TestClient

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Feedback, Listen, Recommendation, RecommendationRequest, Slate, SlateRule, Track
from botify.schemas.external_ids import UserIds
from botify.schemas.track_table import TrackTable
from botify.services.errors import UnavailableError
from botify.services.gateway import Bounds, GatewayOptions
from botify.services.gateway.bootstrap import build_app
from botify.services.gateway.operations import PROBLEM_JSON
from botify.services.gateway.rpc import PendingReply
from botify.services.gateway.service import Connected, Fallback, GatewayService
from botify.services.gateway.sessions import Fingerprint, ListenerNames, ListenerStore, SessionPosition
from botify.services.gateway.state import EventClock, KnownTracks
from botify.services.gateway.v1.api import V1
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.feedback_file import Kinds
from botify.services.gateway.v1.items import Charts, Items
from botify.services.gateway.v1.lists import Groups, Rows
from botify.services.gateway.v1.recommending import Recommending
from botify.services.gateway.v1.users import Explainer, Users
from botify.streams.folds.feedback import _FOLDS, NAMES, _hash_of
from botify.streams.folds.users import UserState
from botify.streams.read import TopTracks
from tests.support import eventually, make_tracks

CODEC = Codec()
TRACKS = 20
POPULAR = [3, 4]
NOW_MS = 1_000_000


@dataclass
class MemorySession:
    """A listener's session, and its last call."""

    at: SessionPosition
    call: Fingerprint
    attribution: bytes | None = None


class MemorySessionStore:
    """Sessions in a dictionary; they never expire."""

    def __init__(self) -> None:
        self.of_users: dict[int, MemorySession] = {}

    async def next_position(self, user: int, call: Fingerprint) -> SessionPosition:
        session = self.of_users.get(user)
        if session is not None and session.call.text == call.text and (call.keyed or not session.at.answered):
            return session.at._replace(attribution=session.attribution)
        if session is None or session.call.ends:
            at, attribution = SessionPosition(call.event_id, 0, None, call.event_id), None
        else:
            before, attribution = session.at, session.attribution
            at = SessionPosition(before.session_id, before.position + 1, attribution, call.event_id)
        self.of_users[user] = MemorySession(at, call, attribution)
        return at

    async def store_answer(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        session = self.of_users.get(user)
        if session is not None and session.at.event_id == event_id:
            session.at = session.at._replace(answered=True)
            session.attribution = attribution or session.attribution


class FakeRpcClient:
    """Keeps what is sent, and recommends the next track; silent or refusing if told so."""

    def __init__(self, fold: Callable[[Feedback], object] = print) -> None:
        self.fold = fold
        self.listens: list[Listen] = []
        self.requests: list[RecommendationRequest] = []
        self.headers: list[Sequence[tuple[str, bytes]]] = []
        self.published: list[tuple[str, bytes]] = []
        self.silent = False
        self.refusing = False
        self.unacknowledged = False

    def send(
        self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> PendingReply:
        assert request is None or request.request_id == id_
        reply = self._reply(None if request is None or self.silent else recommendation_for(request))
        self.listens.append(listen)
        self.headers.append(headers)
        if self.unacknowledged:
            raise UnavailableError("Kafka did not take the listen")
        if request is not None and not self.silent:
            self.requests.append(request)
        return reply

    def ask(self, request: RecommendationRequest) -> PendingReply:
        reply = self._reply(None if self.silent else slate_for(request))
        self.requests.append(request)
        return reply

    def publish(self, _id: str, topic: str, _key: bytes, value: bytes) -> PendingReply:
        reply = self._reply(None)
        self.published.append((topic, value))
        if topic == "feedback":
            self.fold(CODEC.decode(value, Feedback))
        return reply

    def _reply(self, recommendation: Recommendation | None) -> PendingReply:
        if self.refusing:
            raise UnavailableError("Kafka is not reachable")
        future: PendingReply = asyncio.get_running_loop().create_future()
        future.set_result(recommendation)
        return future


def recommendation_for(request: RecommendationRequest) -> Recommendation:
    chosen = ((request.track + 1) % TRACKS, "next", {"A": "T1"}, 0.5, 1, 2.0, request.timestamp_ms, "greedy", 9)
    return Recommendation(request.request_id, request.user, *chosen)


def slate_for(request: RecommendationRequest) -> Recommendation:
    """The first tracks that are not excluded, because of the one before."""
    assert request.slate is not None
    tracks = [track for track in range(TRACKS) if track not in request.slate["exclude"]][: request.slate["size"]]
    slate: Slate = {
        "tracks": tracks,
        "propensities": [0.5] * len(tracks),
        "scores": [float(-track) for track in tracks],
        "sources": ["next_track"] * len(tracks),
        "because": [track + 1 for track in tracks] if request.slate["explain"] else [],
        "versions": {"next_track": 17},
    }
    chosen = (tracks[0], "next_track", {"A": "T1"}, 0.5 ** len(tracks), 0, 1.0, request.timestamp_ms, None, 9)
    return Recommendation(request.request_id, request.user, *chosen, slate=slate)


class MemoryListenerStore(ListenerStore):
    """Keeps in dictionaries what is in Redis; what was said is folded, as by a worker, when it is published."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, int], bytes] = {}  # by hash and listener
        self.looked_up: list[int] = []  # whose names were asked for
        self.claimed: dict[int, str] = {}
        self.shown_slates: dict[int, list[bytes]] = {}
        self.given_to: dict[tuple[int, str], list[int]] = {}
        self.numbers: dict[str, int] = {}

    def fold(self, feedback: Feedback) -> None:
        name = _hash_of(feedback)
        record = self.records.get((name, feedback.user), b"")
        self.records[name, feedback.user] = _FOLDS[name](record, [feedback])

    async def _feedback(self, user: int, name: str) -> bytes | None:
        if name == NAMES:
            self.looked_up.append(user)
        return self.records.get((name, user))

    async def session(self, user: int) -> str | None:
        return None

    async def claim(self, user: int, name: str) -> str:
        return self.claimed.setdefault(user, name)

    async def slates(self, user: int) -> list[bytes]:
        return self.shown_slates.get(user, [])

    async def put_slate(self, user: int, slate: bytes) -> None:
        self.shown_slates.setdefault(user, []).insert(0, slate)

    async def given(self, user: int, session: str) -> list[int]:
        return self.given_to.get((user, session), [])

    async def put_given(self, user: int, session: str, tracks: Sequence[int]) -> None:
        self.given_to.setdefault((user, session), []).extend(tracks)

    async def number_of(self, external_id: str, lowest: int) -> int:
        return self.numbers.setdefault(external_id, max([lowest, *[n + 1 for n in self.numbers.values()]]))

    async def erase(self, user: int) -> None:
        self.records = {of: record for of, record in self.records.items() if of[1] != user}
        for kept in (self.shown_slates, self.claimed):
            kept.pop(user, None)


class FakeReader:
    def __init__(self) -> None:
        self.states: dict[int, UserState] = {}
        self.erased: list[int] = []

    def users(self, users: Sequence[int]) -> list[UserState | None]:
        return [self.states.get(user) for user in users]

    def top_tracks(self, _half_life: str, count: int) -> TopTracks:
        return TopTracks(np.arange(TRACKS)[:count], np.arange(TRACKS, 0, -1.0)[:count], 0)

    def erase(self, user: int) -> int:
        self.erased.append(user)
        return 3 if self.states.pop(user, None) else 0

    def status(self, _: int) -> None:
        return None


class FakeCatalogue:
    """A catalogue to which tracks may be added."""

    def __init__(self) -> None:
        self.tracks = TrackTable(CODEC)
        self.put(make_tracks(TRACKS))
        self.added: dict[int, Track] = {}
        self.looks = 0
        self.fails = False

    def refresh(self) -> int:
        self.looks += 1
        if self.fails:
            raise TopicError("no broker answers")
        return self.take_arrived()

    def take_arrived(self) -> int:
        self.put(list(self.added.values()))
        return len(self.added)

    def put(self, tracks: Sequence[Track]) -> None:
        self.tracks.add(tracks, [CODEC.encode(track) for track in tracks])

    def close(self) -> None:
        pass


class FakeGateway:
    """A service over the fakes, with problems on demand."""

    def __init__(self) -> None:
        self.listeners, self.reader = MemoryListenerStore(), FakeReader()
        self.rpc = FakeRpcClient(self.listeners.fold)
        self.sessions = MemorySessionStore()
        self.catalogue = FakeCatalogue()
        self.popular = list(POPULAR)
        self.found_problems: list[str] = []
        self.clock = EventClock(1, lambda: NOW_MS / 1000)
        self.service = GatewayService(
            deadline_ms=1000,
            codec=CODEC,
            rpc=self.rpc,
            sessions=self.sessions,
            tracks=KnownTracks(self.catalogue),  # type: ignore[arg-type]
            fallback=Fallback(lambda: self.popular, lambda: range(TRACKS), lambda _: {"A": "C"}),
            clock=self.clock,
            names=self.names_of(UserIds()),
        )
        self.kinds = Kinds.of(None)
        self.rules: list[SlateRule] = []
        self.why: Sequence[str] = ("sh", "-c", "echo error: listener has no answer >&2; exit 1")
        self.similar: dict[int, list[tuple[int, float]]] = {}

    def with_tracks(self, fields_of: Callable[[int], dict[str, str]]) -> Self:
        """Change fields of each track, by its number."""
        tracks = self.catalogue.tracks
        self.catalogue.put([track._replace(**fields_of(number)) for number, track in tracks.items()])  # type: ignore[arg-type]
        return self

    def facts(self) -> list[Feedback]:
        """Return what is on the topic of feedback."""
        return [CODEC.decode(value, Feedback) for topic, value in self.rpc.published if topic == "feedback"]

    def names_of(self, users: UserIds) -> ListenerNames:
        return ListenerNames(users, self.listeners, self.rpc, self.clock, "feedback", CODEC)  # type: ignore[arg-type]

    def v1(self) -> V1:
        reader: Any = self.reader
        recommending = Recommending(self.service, self.listeners, self.kinds, lambda _: self.rules)
        items = Items(self.service, self.listeners, Charts(reader), lambda of: self.similar.get(of, []), "catalogue")
        events = EventPublisher(self.service, self.listeners, "feedback", self.kinds)
        users = Users(self.service, self.listeners, reader, reader, events)
        rows, groups = Rows(recommending, items, reader), Groups(recommending)
        return V1(recommending, events, items, users, rows, groups, Explainer(Settings(), self.why))

    async def connect(self, _: AsyncExitStack) -> Connected:
        return Connected(self.service, lambda: self.found_problems, self.v1())


def problem_in(answer: Any, *statuses: int) -> dict[str, Any]:
    """Return what a refusal of `/v1` says, which has one of these statuses."""
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == PROBLEM_JSON
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return body


def operations_of(app: Starlette) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the operations of the OpenAPI documents by method and path."""
    documents = [json.loads(route.app.body) for route in app.routes if getattr(route, "path", "").endswith(".json")]
    return {(m.upper(), path): of[m] for one in documents for path, of in one["paths"].items() for m in of}


@asynccontextmanager
async def in_process(gateway: FakeGateway) -> AsyncIterator[httpx.ASGITransport]:
    """Serve a gateway to clients of httpx in this process, once it is ready."""
    app = build_app(Settings(), connect=gateway.connect)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport) as client, asyncio.timeout(60):
        while (await client.get("http://gateway/readyz")).status_code != 200:
            await asyncio.sleep(0)
        yield transport


def wait_until_started(client: TestClient) -> None:
    eventually(lambda: client.get("/readyz").json()["problems"] != ["starting"], 10, "a gateway that has started")


@contextmanager
def serving(
    gateway: FakeGateway,
    options: GatewayOptions | None = None,
    users: UserIds | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - immutable
) -> Iterator[TestClient]:
    if users is not None:
        gateway.service = replace(gateway.service, names=gateway.names_of(users))
    app = build_app(Settings(), options, bounds, connect=gateway.connect)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_started(client)
        yield client
