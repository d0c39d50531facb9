"""A gateway without servers: topics with canned replies, sessions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from starlette.testclient import TestClient

from core.errors import TopicError
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest, Track
from schemas.external_ids import UserIds
from schemas.track_table import TrackTable
from services.gateway.bootstrap import build_app
from services.gateway.messages import Fingerprint, SessionPosition, UnavailableError
from services.gateway.options import GatewayOptions
from services.gateway.rpc import PendingReply
from services.gateway.service import Connected, Fallback, GatewayService
from services.gateway.state import EventClock, KnownTracks
from tests.support import eventually, make_tracks

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

    def __init__(self) -> None:
        self.listens: list[Listen] = []
        self.requests: list[RecommendationRequest] = []
        self.headers: list[Sequence[tuple[str, bytes]]] = []
        self.silent = False
        self.refusing = False
        self.unacknowledged = False

    def send(
        self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> PendingReply:
        if self.refusing:
            raise UnavailableError("Kafka is not reachable")
        assert request is None or request.request_id == id_
        self.listens.append(listen)
        self.headers.append(headers)
        if self.unacknowledged:
            raise UnavailableError("Kafka did not take the listen")
        future: PendingReply = asyncio.get_running_loop().create_future()
        if request is None or self.silent:
            future.set_result(None)
        else:
            self.requests.append(request)
            future.set_result(recommendation_for(request))
        return future


def recommendation_for(request: RecommendationRequest) -> Recommendation:
    track = (request.track + 1) % TRACKS
    return Recommendation(
        request.request_id, request.user, track, "next", {"A": "T1"}, 0.5, 1, 2.0, request.timestamp_ms, "greedy", 9
    )


CODEC = Codec()


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
        self.put(list(self.added.values()))
        return len(self.added)

    def put(self, tracks: Sequence[Track]) -> None:
        """Add tracks, or replace them."""
        self.tracks.add(tracks, [CODEC.encode(track) for track in tracks])

    def close(self) -> None:
        pass


class FakeGateway:
    """A service over the fakes, with problems on demand."""

    def __init__(self) -> None:
        self.rpc = FakeRpcClient()
        self.sessions = MemorySessionStore()
        self.catalogue = FakeCatalogue()
        self.popular = list(POPULAR)
        self.found_problems: list[str] = []
        self.service = GatewayService(
            deadline_ms=1000,
            codec=Codec(),
            rpc=self.rpc,
            sessions=self.sessions,
            tracks=KnownTracks(self.catalogue),  # type: ignore[arg-type]
            fallback=Fallback(lambda: self.popular, lambda: range(TRACKS), lambda _: {"A": "C"}),
            clock=EventClock(1, lambda: NOW_MS / 1000),
        )

    async def connect(self, _: AsyncExitStack) -> Connected:
        return Connected(self.service, lambda: self.found_problems)


def wait_until_started(client: TestClient) -> None:
    eventually(lambda: client.get("/readyz").json()["problems"] != ["starting"], 10, "a gateway that has started")


@contextmanager
def serving(
    gateway: FakeGateway, options: GatewayOptions | None = None, users: UserIds | None = None
) -> Iterator[TestClient]:
    """An HTTP client of the gateway."""
    app = build_app(Settings(), options, connect=gateway.connect, users=users)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_started(client)
        yield client
