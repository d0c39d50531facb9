"""What the gateway does with a listen: give it a place in a session, tell the topics, wait for the next track."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from schemas.codec import Codec
from schemas.errors import DecodeError
from schemas.event_time import SIMULATED_TIME
from schemas.events import Listen, Recommendation, RecommendationRequest, Track
from services.gateway.errors import UnavailableError, UnknownTrackError
from services.gateway.event_time import EventClock
from services.gateway.fallback import Fallback
from services.gateway.known_tracks import KnownTracks
from services.gateway.messages import Heard, LedBy, Place, listen_of, request_of
from services.gateway.sessions import Sessions
from services.gateway.waiting import Outcome

log = logging.getLogger(__name__)


class Call(NamedTuple):
    """How a client's call is called.

    Attributes
    ----------
    id_ : str
        Given by us, unique: the id of the listen and of the request.
    client_id : bytes | None
        Given by the client; it travels with the records as their header `x-request-id`.
    """

    id_: str
    client_id: bytes | None = None


class Answer(NamedTuple):
    """The next track for a listener, and whether the recommender was too late to choose it."""

    track: int
    fallback: bool


class Exchanging(Protocol):
    """Where listens and requests go; `Exchange` is the real one."""

    def tell(
        self, listen: Listen, request: RecommendationRequest | None, headers: Sequence[tuple[str, bytes]] = ()
    ) -> Outcome:
        """Send, and return what the client waits for."""


class GatewayService:
    """Serves listeners. All methods belong in the event loop's thread.

    Parameters
    ----------
    deadline_ms : int
        How long the recommender has.
    codec : Codec
    exchange : Exchanging
    sessions : Sessions
    tracks : KnownTracks
    fallback : Fallback
    clock : EventClock
    """

    def __init__(
        self,
        deadline_ms: int,
        *,
        codec: Codec,
        exchange: Exchanging,
        sessions: Sessions,
        tracks: KnownTracks,
        fallback: Fallback,
        clock: EventClock,
    ) -> None:
        self._deadline_ms = deadline_ms
        self._codec = codec
        self._exchange = exchange
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

    async def next(self, heard: Heard, call: Call) -> Answer:
        """Tell a listen, and return what the listener hears next.

        Parameters
        ----------
        heard : Heard
        call : Call

        Raises
        ------
        UnknownTrackError
            The catalogue has no such track: the worker would refuse the listen.
        UnavailableError
            The listen is not known to be in the topic.
        """
        began_s = time.monotonic()
        listen = await self._listen(heard, call, ended=False)
        request = request_of(listen, int(time.time() * 1000) + self._deadline_ms)
        recommendation = await self._exchange.tell(listen, request, self._headers(heard.user, call))
        waited_ms = (time.monotonic() - began_s) * 1000
        in_time = recommendation is not None
        if recommendation is None:
            recommendation = self._fallback.recommend(request, waited_ms)
            log.warning(
                "no recommendation in time",
                extra={"request_id": call.id_, "client_request_id": call.client_id, "user": heard.user},
            )
        await self._remember(listen, recommendation, waited_ms)
        return Answer(recommendation.track, fallback=not in_time)

    async def last(self, heard: Heard, call: Call) -> None:
        """Tell the last listen of a session; raises as `next`."""
        listen = await self._listen(heard, call, ended=True)
        await self._exchange.tell(listen, None, self._headers(heard.user, call))

    async def _listen(self, heard: Heard, call: Call, *, ended: bool) -> Listen:
        await self.track(heard.track)
        place = await self._sessions.take(heard.user, call.id_, ends=ended)
        return listen_of(call.id_, heard, place, self._led_by(place), self._clock.now_ms(heard.user), ended=ended)

    def _led_by(self, place: Place) -> LedBy | None:
        if place.led_by is None:
            return None
        try:
            return LedBy.from_bytes(place.led_by, self._codec)
        except DecodeError as error:  # written by a gateway with newer schemas
            log.warning("what led to a listen cannot be read: %s", error)
            return None

    async def _remember(self, listen: Listen, recommendation: Recommendation, waited_ms: float) -> None:
        record = LedBy(recommendation, waited_ms).to_bytes(self._codec)
        try:
            await self._sessions.remember(listen.user, listen.session_id, record)
        except UnavailableError as error:  # the listener has a track; only the next listen will not say who chose it
            log.warning("a recommendation is not remembered: %s", error, extra={"request_id": listen.event_id})

    def _headers(self, user: int, call: Call) -> tuple[tuple[str, bytes], ...]:
        own = () if call.client_id is None else (("x-request-id", call.client_id),)
        return (*own, SIMULATED_TIME) if self._clock.is_simulated(user) else own
