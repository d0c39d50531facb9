"""What a finished listen is on the topics: the event, and the request for the next track."""

from __future__ import annotations

import hashlib
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


class RequestId(NamedTuple):
    """How a client's call is called.

    Attributes
    ----------
    id_ : str
        Given by us, unique: the id of the request, and of the listen unless the call is a retry.
    client_id : bytes | None
        Given by the client; it travels with the records as their header `x-request-id`.
    key : str | None
        Given by the client (`Idempotency-Key`), the same in each retry and in no other call.
    """

    id_: str
    client_id: bytes | None = None
    key: str | None = None


class Said(NamedTuple):
    """What the client of a call says, which is what it says again when it retries.

    Attributes
    ----------
    event_id : str
        What the listen is called, unless the call is a retry of one that has a name. With a key of the client's it
        follows from what is said, so a retry has it even where the session is forgotten.
    text : str
        All that is the same in a retry.
    keyed : bool
        Whether that differs in any other call, so that whoever says it again is a retry, answered or not.
    ends : bool
        Whether the listener goes away after this listen.
    """

    event_id: str
    text: str
    keyed: bool
    ends: bool


def said_by(heard: Heard, call: RequestId, *, ends: bool) -> Said:
    """Return what a call says.

    A key that is used again with another track is another listen, not a retry.

    Examples
    --------
    >>> said_by(Heard(42, 7, 0.5), RequestId("g-1"), ends=False)
    Said(event_id='g-1', text='next 7 0.5', keyed=False, ends=False)
    >>> once, again = (said_by(Heard(42, 7, 0.5), RequestId(id_, None, "mine"), ends=True) for id_ in ("g-1", "g-2"))
    >>> once == again
    True
    """
    text = f"{'last' if ends else 'next'} {heard.track} {heard.fraction!r}"
    if call.key is None:
        return Said(call.id_, text, keyed=False, ends=ends)
    text = f"{text} {call.key}"
    digest = hashlib.blake2b(f"{heard.user} {text}".encode(), digest_size=16)
    return Said(f"k{digest.hexdigest()}", text, keyed=True, ends=ends)


class Attribution(NamedTuple):
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
    def from_bytes(cls, record: bytes, codec: Codec) -> Attribution:
        """Read a record; raises `DecodeError` where its version is unknown."""
        (latency_ms,) = _LATENCY.unpack_from(record)
        return cls(codec.decode(record[_LATENCY.size :], Recommendation), latency_ms)


class SessionPosition(NamedTuple):
    """Where in which session a listen is.

    Attributes
    ----------
    session_id : str
    position : int
        From 0.
    attribution : bytes | None
        `Attribution` of the session's last recommendation.
    event_id : str
        Of the listen at this place; a retry has the one of the first try.
    answered : bool
        Whether this is the retry of a call that was answered, by what `attribution` says.
    """

    session_id: str
    position: int
    attribution: bytes | None
    event_id: str
    answered: bool = False


def listen_of(
    heard: Heard, place: SessionPosition, attribution: Attribution | None, timestamp_ms: int, *, ended: bool
) -> Listen:
    """Return the event. What led to it is said only where the track heard is the one that was recommended.

    Examples
    --------
    >>> chosen = Recommendation("g-1", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000)
    >>> place = SessionPosition("s", 1, None, "g-2")
    >>> listen_of(Heard(42, 7, 0.5), place, Attribution(chosen, 4.5), 2000, ended=False).recommender
    'toppop'
    >>> listen_of(Heard(42, 8, 0.5), place, Attribution(chosen, 4.5), 2000, ended=False).recommender is None
    True
    """
    at = timestamp_ms, place.session_id, place.position
    listen = Listen(place.event_id, heard.user, heard.track, heard.fraction, *at, ended, None, {}, None, None)
    if attribution is None or attribution.recommendation.track != heard.track:
        return listen
    chosen = attribution.recommendation
    return listen._replace(
        recommender=chosen.recommender,
        treatments=chosen.treatments,
        propensity=chosen.propensity,
        latency_ms=attribution.latency_ms,
        policy=chosen.policy,
        candidates=chosen.candidates,
    )


def request_of(listen: Listen, request_id: str, deadline_ms: int) -> RecommendationRequest:
    """Return the request that goes with a listen.

    Parameters
    ----------
    listen : Listen
    request_id : str
        Of the call: unlike the event, each retry has its own, or an answer to one would be taken for that to another.
    deadline_ms : int
        Wall clock.
    """
    return RecommendationRequest(
        request_id=request_id,
        user=listen.user,
        session_id=listen.session_id,
        position=listen.position,
        track=listen.track,
        fraction=listen.fraction,
        timestamp_ms=listen.timestamp_ms,
        deadline_ms=deadline_ms,
    )
