"""What the gateway does for listeners: sessions, listens, recommendations, and a fallback if none comes in time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from botify.core.errors import BotifyError, DecodeError
from botify.core.keyed_random import integers, keys_of_texts
from botify.core.process import in_background, stop
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest, Track
from botify.schemas.validation import MAX_TRACK
from botify.services.errors import UnavailableError, UnknownTrackError
from botify.services.gateway.rpc import RpcClient
from botify.services.gateway.sessions import (
    Attribution,
    ListenerNames,
    ListenReport,
    RequestId,
    SessionPosition,
    SessionStore,
    fingerprint_of,
    listen_of,
    request_of,
)
from botify.services.gateway.state import EventClock, KnownTracks
from botify.services.recommender.protocol import RandomStream
from botify.streams.store.connect import REDIS_ERRORS

log = logging.getLogger(__name__)
T = TypeVar("T")

POPULAR = "gateway-popular"
RANDOM = "gateway-random"
FALLBACKS = (POPULAR, RANDOM)  # names of recommenders in listens that follow a fallback


@dataclass(frozen=True, slots=True)
class Fallback:
    """One of the popular tracks, uniformly, the same for the same request; before any listen, one of all tracks.

    It has the listener's treatments: an experiment without the listeners who were not served in time would not compare
    random halves.

    Examples
    --------
    >>> fallback = Fallback(lambda: [5, 6], lambda: range(10), lambda user: {"A": "T1"})
    >>> made = fallback.recommend(RecommendationRequest("g-1", 42, "s", 0, 7, 0.5, 1000, 2000), waited_ms=1000.0)
    >>> made.track in (5, 6), made.propensity, made.recommender
    (True, 0.5, 'gateway-popular')
    """

    popular: Callable[[], Sequence[int]]
    tracks: Callable[[], Sequence[int] | NDArray[np.int64]]
    treatments_of: Callable[[int], Mapping[str, str]]

    def recommend(self, request: RecommendationRequest, waited_ms: float) -> Recommendation:
        """Answer in place of the recommender; the catalogue has at least the request's track."""
        name, top = (POPULAR, popular) if (popular := self.popular()) else (RANDOM, self.tracks())
        (row,) = integers(keys_of_texts([request.request_id]), RandomStream.TOPPOP, len(top)).tolist()
        return Recommendation(
            request_id=request.request_id,
            user=request.user,
            track=int(top[row]),
            recommender=name,
            treatments=self.treatments_of(request.user),
            propensity=1.0 / len(top),
            state_freshness=0,
            latency_ms=waited_ms,
            timestamp_ms=request.timestamp_ms,
        )


class Answer(NamedTuple):
    """The next track for a listener, whether it is a fallback, the id of the listen, and the track's external id."""

    track: int
    fallback: bool
    event_id: str
    external_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayService:
    """Serves listeners. All methods belong in the event loop's thread."""

    deadline_ms: int  # how long the recommender may take, or workers to fold what was said
    codec: Codec
    rpc: RpcClient
    sessions: SessionStore
    names: ListenerNames
    tracks: KnownTracks
    fallback: Fallback
    clock: EventClock

    async def track(self, track: int | str) -> Track:
        """Return the track of a number or an external id; raises `UnknownTrackError` and `UnavailableError`."""
        found = await self.tracks.find(track)
        if found is None or found.track > MAX_TRACK:  # the worker would reject it
            raise UnknownTrackError(f"there is no track {track!r}")
        return found

    async def next(self, report: ListenReport, request_id: RequestId) -> Answer:
        """Publish a listen, and return the listener's next track.

        The caller has looked up its track (`track`): the worker would reject one that is unknown. Raises
        `UnavailableError` if the listen may not be published.
        """
        began_s = time.monotonic()
        at = await self.sessions.next_position(report.user, fingerprint_of(report, request_id, ends=False))
        attribution = self._attribution(at)
        if at.answered and attribution is not None:
            given = attribution.recommendation
            return await self._answer(given.track, given.recommender in FALLBACKS, at.event_id)
        listen = listen_of(report, at, attribution, self.clock.now_ms(report.user), ended=False)
        request = request_of(listen, request_id.id_, int(time.time() * 1000) + self.deadline_ms)
        recommendation = await self.rpc.send(request_id.id_, listen, request, _headers(request_id))
        waited_ms = (time.monotonic() - began_s) * 1000
        late = recommendation is None
        if recommendation is None:
            recommendation = self.fallback.recommend(request, waited_ms)
            log.warning(
                "no recommendation in time",
                extra={"request_id": request_id.id_, "client_request_id": request_id.client_id, "user": report.user},
            )
        await self._store_answer(listen, request_id, Attribution(recommendation, waited_ms).to_bytes(self.codec))
        return await self._answer(recommendation.track, late, listen.event_id)

    async def last(self, report: ListenReport, request_id: RequestId) -> str:
        """Publish the last listen of a session, and return its id; raises as `next`."""
        at = await self.sessions.next_position(report.user, fingerprint_of(report, request_id, ends=True))
        if not at.answered:
            listen = listen_of(report, at, self._attribution(at), self.clock.now_ms(report.user), ended=True)
            await self.rpc.send(request_id.id_, listen, None, _headers(request_id))
            await self._store_answer(listen, request_id, b"")
        return at.event_id

    async def _answer(self, track: int, fallback: bool, event_id: str) -> Answer:
        try:
            found = await self.tracks.find(track)
        except UnavailableError:  # the listener can play it by its number
            found = None
        return Answer(track, fallback, event_id, None if found is None else found.external_id)

    def _attribution(self, at: SessionPosition) -> Attribution | None:
        if at.attribution is None:
            return None
        try:
            return Attribution.from_bytes(at.attribution, self.codec)
        except DecodeError as error:  # written by a gateway with newer schemas
            log.warning("the attribution of a listen cannot be read: %s", error)
            return None

    async def _store_answer(self, listen: Listen, request_id: RequestId, attribution: bytes) -> None:
        try:
            await self.sessions.store_answer(listen.user, listen.event_id, attribution)
        except UnavailableError as error:
            # The listener has a track. Only the next listen is not attributed, and is taken for a retry if it is of
            # the same track.
            log.warning("an answer cannot be stored for retries: %s", error, extra={"request_id": request_id.id_})


async def answer_of(asked: Awaitable[T]) -> T:
    """Return what Redis and Kafka answer; raises `UnavailableError`."""
    try:
        return await asked
    except REDIS_ERRORS as error:
        raise UnavailableError.of_redis(error) from error
    except BotifyError as error:
        raise UnavailableError(str(error)) from error


def _headers(request_id: RequestId) -> tuple[tuple[str, bytes], ...]:
    return () if request_id.client_id is None else (("x-request-id", request_id.client_id),)


class Connected(NamedTuple):
    """A running service, and a function that returns what keeps it from serving listeners."""

    service: GatewayService
    problems: Callable[[], list[str]]
    v1: Any = None
    """A `botify.services.gateway.v1.api.V1`, which imports this module."""


Connect = Callable[[AsyncExitStack], Awaitable[Connected]]
"""Starts the service; the stack gets what must be stopped at the end. Raises `BotifyError`."""

RECONNECT_S = 1.0


class Backend:
    """Connects the service in the background, retrying until it succeeds; meanwhile it says what is missing."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connected: Connected | None = None
        self._problem = "starting"
        self._stack = AsyncExitStack()
        self._connecting: asyncio.Task[None] | None = None

    @property
    def connected(self) -> Connected:
        """The running service; raises `UnavailableError` while there is none."""
        if self._connected is None:
            raise UnavailableError(f"the gateway is not ready: {self._problem}")
        return self._connected

    def problems(self) -> list[str]:
        return [self._problem] if self._connected is None else self._connected.problems()

    async def start(self, wait_s: float = 0.0) -> None:
        """Start connecting, and wait for so long at most until it has succeeded."""
        self._connecting = in_background(self._connect_until_ready())
        await asyncio.wait([self._connecting], timeout=wait_s)

    async def stop(self) -> None:
        if self._connecting is not None:
            await stop(self._connecting)
        self._connected = None
        await self._stack.aclose()

    async def _connect_until_ready(self) -> None:
        while self._connected is None:
            async with AsyncExitStack() as stack:
                try:
                    self._connected = await self._connect(stack)
                except (BotifyError, *REDIS_ERRORS) as error:
                    if str(error) != self._problem:
                        log.warning("not ready: %s", error)
                    self._problem = str(error)
                else:
                    self._stack = stack.pop_all()
                    log.info("ready")
                    return
            await asyncio.sleep(RECONNECT_S)
