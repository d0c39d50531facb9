"""A gateway without servers: topics that answer as they are told, sessions in memory."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager

from fastapi.testclient import TestClient

from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest, Track
from schemas.settings import Settings
from services.gateway.app import build_app
from services.gateway.errors import UnavailableError
from services.gateway.event_time import EventClock
from services.gateway.fallback import Fallback
from services.gateway.known_tracks import KnownTracks
from services.gateway.messages import Place
from services.gateway.options import GatewayOptions
from services.gateway.service import GatewayService
from services.gateway.waiting import Outcome
from tests.support import make_tracks

TRACKS = 20
POPULAR = [3, 4]
NOW_MS = 1_000_000


class MemorySessions:
    """Sessions in a dictionary; they never expire."""

    def __init__(self) -> None:
        self.open: dict[int, tuple[str, Iterator[int]]] = {}
        self.led_by: dict[int, bytes] = {}

    async def take(self, user: int, new_id: str, *, ends: bool) -> Place:
        session_id, positions = self.open.setdefault(user, (new_id, itertools.count()))
        place = Place(session_id, next(positions), self.led_by.get(user))
        if ends:
            del self.open[user]
            self.led_by.pop(user, None)
        return place

    async def remember(self, user: int, session_id: str, led_by: bytes) -> None:
        if user in self.open and self.open[user][0] == session_id:
            self.led_by[user] = led_by


class FakeExchange:
    """Keeps what it is told, and recommends the next track; silent or refusing where it is told to be."""

    def __init__(self) -> None:
        self.listens: list[Listen] = []
        self.requests: list[RecommendationRequest] = []
        self.headers: list[Sequence[tuple[str, bytes]]] = []
        self.silent = False
        self.refusing = False
        self.hold: asyncio.Event | None = None

    def tell(
        self, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Outcome:
        if self.refusing:
            raise UnavailableError("Kafka is not reachable")
        self.listens.append(listen)
        self.headers.append(headers)
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

    def refresh(self) -> int:
        self.looks += 1
        self.tracks.update(self.added)
        return len(self.added)

    def close(self) -> None:
        pass


class FakeGateway:
    """A service over the fakes; `problems` as it is told."""

    def __init__(self) -> None:
        self.exchange = FakeExchange()
        self.sessions = MemorySessions()
        self.catalogue = FakeCatalogue()
        self.popular = list(POPULAR)
        self.found_problems: list[str] = []
        self.service = GatewayService(
            1000,
            codec=Codec(),
            exchange=self.exchange,
            sessions=self.sessions,
            tracks=KnownTracks(self.catalogue),  # type: ignore[arg-type]
            fallback=Fallback(lambda: self.popular, lambda _: {"A": "C"}),
            clock=EventClock(1, lambda: NOW_MS / 1000),
        )

    def problems(self) -> list[str]:
        return self.found_problems

    async def connect(self, _: AsyncExitStack) -> FakeGateway:
        return self


@contextmanager
def serving(gateway: FakeGateway, options: GatewayOptions | None = None) -> Iterator[TestClient]:
    """An HTTP client of the gateway."""
    app = build_app(Settings(), options, connect=gateway.connect)
    with TestClient(app, raise_server_exceptions=False) as client:
        while client.get("/readyz").json()["problems"] == ["starting"]:
            pass
        yield client
