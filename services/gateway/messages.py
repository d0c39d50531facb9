"""What a finished listen is on the topics: the event, and the request for the next track."""

from __future__ import annotations

import struct
from typing import NamedTuple

from schemas.codec import Codec
from schemas.events import Listen, Recommendation, RecommendationRequest

_LATENCY = struct.Struct("<d")


class Heard(NamedTuple):
    """What a client said: this listener heard this share of this track."""

    user: int
    track: int
    fraction: float


class LedBy(NamedTuple):
    """The recommendation that the listener was given last.

    Attributes
    ----------
    recommendation : Recommendation
    latency_ms : float
        From the listener's request to the answer.
    """

    recommendation: Recommendation
    latency_ms: float

    def to_bytes(self, codec: Codec) -> bytes:
        """Return the record that is kept until the next listen: the latency, then the event as it is on the wire."""
        return _LATENCY.pack(self.latency_ms) + codec.encode(self.recommendation)

    @classmethod
    def from_bytes(cls, record: bytes, codec: Codec) -> LedBy:
        """Read a record; raises `DecodeError` where its version is unknown."""
        (latency_ms,) = _LATENCY.unpack_from(record)
        return cls(codec.decode(record[_LATENCY.size :], Recommendation), latency_ms)


class Place(NamedTuple):
    """Where in which session a listen is.

    Attributes
    ----------
    session_id : str
    position : int
        From 0.
    led_by : bytes | None
        `LedBy` of the session's last recommendation.
    """

    session_id: str
    position: int
    led_by: bytes | None


def listen_of(
    event_id: str, heard: Heard, place: Place, led_by: LedBy | None, timestamp_ms: int, *, ended: bool
) -> Listen:
    """Return the event. What led to it is said only where the track heard is the one that was recommended.

    Examples
    --------
    >>> chosen = Recommendation("g-1", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000)
    >>> place = Place("s", 1, None)
    >>> listen_of("g-2", Heard(42, 7, 0.5), place, LedBy(chosen, 4.5), 2000, ended=False).recommender
    'toppop'
    >>> listen_of("g-2", Heard(42, 8, 0.5), place, LedBy(chosen, 4.5), 2000, ended=False).recommender is None
    True
    """
    listen = Listen(
        event_id=event_id,
        user=heard.user,
        track=heard.track,
        fraction=heard.fraction,
        timestamp_ms=timestamp_ms,
        session_id=place.session_id,
        position=place.position,
        ended_session=ended,
        recommender=None,
        treatments={},
        propensity=None,
        latency_ms=None,
    )
    if led_by is None or led_by.recommendation.track != heard.track:
        return listen
    chosen = led_by.recommendation
    return listen._replace(
        recommender=chosen.recommender,
        treatments=chosen.treatments,
        propensity=chosen.propensity,
        latency_ms=led_by.latency_ms,
        policy=chosen.policy,
        candidates=chosen.candidates,
    )


def request_of(listen: Listen, deadline_ms: int) -> RecommendationRequest:
    """Return the request that goes with a listen; its id is the event's.

    Parameters
    ----------
    listen : Listen
    deadline_ms : int
        Wall clock.
    """
    return RecommendationRequest(
        request_id=listen.event_id,
        user=listen.user,
        session_id=listen.session_id,
        position=listen.position,
        track=listen.track,
        fraction=listen.fraction,
        timestamp_ms=listen.timestamp_ms,
        deadline_ms=deadline_ms,
    )
