"""A gateway without servers: topics that answer as they are told, sessions in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

from fastapi.testclient import TestClient

from core.errors import TopicError
from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest, Track
from services.gateway.app import build_app
from services.gateway.errors import UnavailableError
from services.gateway.messages import Said, SessionPosition
from services.gateway.options import GatewayOptions
from services.gateway.rpc import Outcome
from services.gateway.service import Fallback, GatewayService
from services.gateway.state import EventClock, KnownTracks
from tests.support import eventually, make_tracks

TRACKS = 20
POPULAR = [3, 4]
NOW_MS = 1_000_000


@dataclass
class MemorySession:
    """A listener's session, and what its last call said."""

    place: SessionPosition
    said: Said
    attribution: bytes | None = None


class MemorySessionStore:
    """Sessions in a dictionary; they never expire."""

    def __init__(self) -> None:
        self.of_users: dict[int, MemorySession] = {}

    async def take(self, user: int, said: Said) -> SessionPosition:
        session = self.of_users.get(user)
        if session is not None and session.said.text == said.text and (said.keyed or not session.place.answered):
            return session.place._replace(attribution=session.attribution)
        if session is None or session.said.ends:
            place, attribution = SessionPosition(said.event_id, 0, None, said.event_id), None
        else:
            before, attribution = session.place, session.attribution
            place = SessionPosition(before.session_id, before.position + 1, attribution, said.event_id)
        self.of_users[user] = MemorySession(place, said, attribution)
        return place

    async def remember(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        session = self.of_users.get(user)
        if session is not None and session.place.event_id == event_id:
            session.place = session.place._replace(answered=True)
            session.attribution = attribution or session.attribution


class FakeExchange:
    """Keeps what it is told, and recommends the next track; silent or refusing where it is told to be."""

    def __init__(self) -> None:
        self.listens: list[Listen] = []
        self.requests: list[RecommendationRequest] = []
        self.headers: list[Sequence[tuple[str, bytes]]] = []
        self.silent = False
        self.refusing = False
        self.unacknowledged = False

    def tell(
        self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Outcome:
        if self.refusing:
            raise UnavailableError("Kafka is not reachable")
        assert request is None or request.request_id == id_
        self.listens.append(listen)
        self.headers.append(headers)
        if self.unacknowledged:
            raise UnavailableError("Kafka did not take the listen")
        future: Outcome = asyncio.get_running_loop().create_future()
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


class FakeCatalogue:
    """A catalogue to which tracks may be added."""

    def __init__(self) -> None:
        self.tracks: dict[int, Track] = {track.track: track for track in make_tracks(TRACKS)}
        self.added: dict[int, Track] = {}
        self.looks = 0
        self.fails = False

    def refresh(self) -> int:
        self.looks += 1
        if self.fails:
            raise TopicError("no broker answers")
        self.tracks.update(self.added)
        return len(self.added)

    def close(self) -> None:
        pass


class FakeGateway:
    """A service over the fakes; `problems` as it is told."""

    def __init__(self) -> None:
        self.rpc = FakeExchange()
        self.sessions = MemorySessionStore()
        self.catalogue = FakeCatalogue()
        self.popular = list(POPULAR)
        self.found_problems: list[str] = []
        self.service = GatewayService(
            1000,
            codec=Codec(),
            rpc=self.rpc,
            sessions=self.sessions,
            tracks=KnownTracks(self.catalogue),  # type: ignore[arg-type]
            fallback=Fallback(lambda: self.popular, lambda: range(TRACKS), lambda _: {"A": "C"}),
            clock=EventClock(1, lambda: NOW_MS / 1000),
        )

    def problems(self) -> list[str]:
        return self.found_problems

    async def connect(self, _: AsyncExitStack) -> FakeGateway:
        return self


def wait_until_started(client: TestClient) -> None:
    eventually(lambda: client.get("/readyz").json()["problems"] != ["starting"], 10, "a gateway that has started")


@contextmanager
def serving(gateway: FakeGateway, options: GatewayOptions | None = None) -> Iterator[TestClient]:
    """An HTTP client of the gateway."""
    app = build_app(Settings(), options, connect=gateway.connect)
    with TestClient(app, raise_server_exceptions=False) as client:
        wait_until_started(client)
        yield client
