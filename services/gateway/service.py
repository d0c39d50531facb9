"""What a listener is given when no recommendation came in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

from core.errors import DecodeError
from core.keyed_random import integers, keys_of_texts
from schemas.codec import Codec
from schemas.event_time import SIMULATED_TIME
from schemas.events import Listen, Recommendation, RecommendationRequest, Track
from services.gateway.errors import UnavailableError, UnknownTrackError
from services.gateway.messages import Attribution, Heard, RequestId, SessionPosition, listen_of, request_of, said_by
from services.gateway.rpc import Outcome
from services.gateway.sessions import SessionStore
from services.gateway.state import EventClock, KnownTracks
from services.recommender.protocol import RandomStream

POPULAR = "gateway-popular"
RANDOM = "gateway-random"
FALLBACKS = (POPULAR, RANDOM)
"""One of them stands in the listen where the recommender's name stands."""


class Fallback:
    """One of the popular tracks, drawn evenly, the same for the same request; of all tracks before any was heard.

    The treatments are said all the same: an experiment that left out the listeners who were not served in time would
    no longer compare random halves.

    Parameters
    ----------
    popular, tracks : callable
        Return the current top, and the catalogue.
    treatments_of : callable
        Returns a listener's treatments.

    Examples
    --------
    >>> fallback = Fallback(lambda: [5, 6], lambda: range(10), lambda user: {"A": "T1"})
    >>> made = fallback.recommend(RecommendationRequest("g-1", 42, "s", 0, 7, 0.5, 1000, 2000), waited_ms=1000.0)
    >>> made.track in (5, 6), made.propensity, made.recommender
    (True, 0.5, 'gateway-popular')
    """

    def __init__(
        self,
        popular: Callable[[], Sequence[int]],
        tracks: Callable[[], Sequence[int]],
        treatments_of: Callable[[int], Mapping[str, str]],
    ) -> None:
        self._popular = popular
        self._tracks = tracks
        self._treatments_of = treatments_of

    def recommend(self, request: RecommendationRequest, waited_ms: float) -> Recommendation:
        """Answer in the recommender's place; the catalogue has the track of the request at least."""
        name, top = (POPULAR, popular) if (popular := self._popular()) else (RANDOM, self._tracks())
        (row,) = integers(keys_of_texts([request.request_id]), RandomStream.TOPPOP, len(top)).tolist()
        return Recommendation(
            request_id=request.request_id,
            user=request.user,
            track=top[row],
            recommender=name,
            treatments=self._treatments_of(request.user),
            propensity=1.0 / len(top),
            state_freshness=0,
            latency_ms=waited_ms,
            timestamp_ms=request.timestamp_ms,
        )


log = logging.getLogger(__name__)


class Answer(NamedTuple):
    """The next track for a listener, whether the recommender was too late to choose it, and the id of the listen."""

    track: int
    fallback: bool
    event_id: str


class Rpc(Protocol):
    """Where listens and requests go; `RpcClient` is the real one."""

    def tell(
        self, id_: str, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Outcome:
        """Send, and return what the client waits for."""


class GatewayService:
    """Serves listeners. All methods belong in the event loop's thread.

    Parameters
    ----------
    deadline_ms : int
        How long the recommender has.
    codec : Codec
    rpc : Rpc
    sessions : SessionStore
    tracks : KnownTracks
    fallback : Fallback
    clock : EventClock
    """

    def __init__(
        self,
        deadline_ms: int,
        *,
        codec: Codec,
        rpc: Rpc,
        sessions: SessionStore,
        tracks: KnownTracks,
        fallback: Fallback,
        clock: EventClock,
    ) -> None:
        self._deadline_ms = deadline_ms
        self._codec = codec
        self._rpc = rpc
        self._sessions = sessions
        self._tracks = tracks
        self._fallback = fallback
        self._clock = clock

    async def track(self, track: int) -> Track:
        """Return a track of the catalogue.

        Raises
        ------
        UnknownTrackError, UnavailableError
        """
        found = await self._tracks.find(track)
        if found is None:
            raise UnknownTrackError(f"there is no track {track}")
        return found

    async def next(self, heard: Heard, call: RequestId) -> Answer:
        """Tell a listen, and return what the listener hears next.

        Parameters
        ----------
        heard : Heard
        call : RequestId

        Raises
        ------
        UnknownTrackError
            The catalogue has no such track: the worker would refuse the listen.
        UnavailableError
            The listen is not known to be in the topic.
        """
        began_s = time.monotonic()
        place = await self._place(heard, call, ends=False)
        attribution = self._attribution(place)
        if place.answered and attribution is not None:
            again = attribution.recommendation
            return Answer(again.track, again.recommender in FALLBACKS, place.event_id)
        listen = listen_of(heard, place, attribution, self._clock.now_ms(heard.user), ended=False)
        request = request_of(listen, call.id_, int(time.time() * 1000) + self._deadline_ms)
        recommendation = await self._rpc.tell(call.id_, listen, request, self._headers(heard.user, call))
        waited_ms = (time.monotonic() - began_s) * 1000
        in_time = recommendation is not None
        if recommendation is None:
            recommendation = self._fallback.recommend(request, waited_ms)
            log.warning(
                "no recommendation in time",
                extra={"request_id": call.id_, "client_request_id": call.client_id, "user": heard.user},
            )
        await self._remember(listen, call, Attribution(recommendation, waited_ms).to_bytes(self._codec))
        return Answer(recommendation.track, not in_time, listen.event_id)

    async def last(self, heard: Heard, call: RequestId) -> str:
        """Tell the last listen of a session, and return its id; raises as `next`."""
        place = await self._place(heard, call, ends=True)
        if not place.answered:
            listen = listen_of(heard, place, self._attribution(place), self._clock.now_ms(heard.user), ended=True)
            await self._rpc.tell(call.id_, listen, None, self._headers(heard.user, call))
            await self._remember(listen, call, b"")
        return place.event_id

    async def _place(self, heard: Heard, call: RequestId, *, ends: bool) -> SessionPosition:
        await self.track(heard.track)
        return await self._sessions.take(heard.user, said_by(heard, call, ends=ends))

    def _attribution(self, place: SessionPosition) -> Attribution | None:
        if place.attribution is None:
            return None
        try:
            return Attribution.from_bytes(place.attribution, self._codec)
        except DecodeError as error:  # written by a gateway with newer schemas
            log.warning("the attribution of a listen cannot be read: %s", error)
            return None

    async def _remember(self, listen: Listen, call: RequestId, attribution: bytes) -> None:
        try:
            await self._sessions.remember(listen.user, listen.event_id, attribution)
        except UnavailableError as error:
            # the listener has a track; only the next listen will not say who chose it, and if it is of the same track,
            # will be taken for a retry
            log.warning("an answer cannot be stored for retries: %s", error, extra={"request_id": call.id_})

    def _headers(self, user: int, call: RequestId) -> tuple[tuple[str, bytes], ...]:
        own = () if call.client_id is None else (("x-request-id", call.client_id),)
        return (*own, SIMULATED_TIME) if self._clock.is_simulated(user) else own
