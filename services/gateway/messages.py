"""A client's call, the records that it becomes on the topics, and the errors that end it."""

from __future__ import annotations

import hashlib
import struct
from typing import NamedTuple

from botify.core.errors import BotifyError
from botify.schemas.codec import Codec
from botify.schemas.events import Listen, Recommendation, RecommendationRequest

NO_CATALOGUE = "the catalogue is empty; `botify world publish` or a simulation fills it"
"""The only problem in `/readyz` of a gateway that waits for nothing but tracks."""

_LATENCY = struct.Struct("<d")


class UnavailableError(BotifyError):
    """Kafka or Redis cannot be used at the moment; the client may retry (503)."""


class UnknownItemError(BotifyError):
    """The catalogue has no such item, or it was deleted (404)."""


class InvalidRequestError(BotifyError):
    """The request does not have the form that its route demands (422); the argument is a list with `loc` and `msg`."""


class WrongEventError(BotifyError):
    """An event cannot be accepted (422); the arguments are the path of its field and why."""


class UnknownTrackError(BotifyError):
    """The catalogue has no such track (404 in a path, 422 in a body)."""


class ListenReport(NamedTuple):
    """What a client reports: a listener, a track, and the share of it that was heard."""

    user: int
    track: int
    fraction: float


class RequestId(NamedTuple):
    """The ids of a client's call."""

    id_: str  # ours, unique: of the request, and of the listen unless the call is a retry
    client_id: bytes | None = None  # the client's; the records have it in their header `x-request-id`
    key: str | None = None  # the client's `Idempotency-Key`: the same in each retry and in no other call


class Fingerprint(NamedTuple):
    """What is the same in a call and its retries.

    With a key, the event id is a hash of the call, so that a retry has the same id even if the session is lost.
    """

    event_id: str  # of the listen, unless the call is a retry of one without a key
    text: str  # all that a retry repeats
    keyed: bool  # whether the text contains a key, so that an equal text is always a retry
    ends: bool  # whether the listen ends the session


def fingerprint_of(report: ListenReport, request_id: RequestId, *, ends: bool) -> Fingerprint:
    """Return the fingerprint of a call. A key that is reused with another track gives another listen, not a retry.

    Examples
    --------
    >>> fingerprint_of(ListenReport(42, 7, 0.5), RequestId("g-1"), ends=False)
    Fingerprint(event_id='g-1', text='next 7 0.5', keyed=False, ends=False)
    >>> ids = RequestId("g-1", None, "mine"), RequestId("g-2", None, "mine")
    >>> first, retry = (fingerprint_of(ListenReport(42, 7, 0.5), id_, ends=True) for id_ in ids)
    >>> first == retry
    True
    """
    text = f"{'last' if ends else 'next'} {report.track} {report.fraction!r}"
    if request_id.key is None:
        return Fingerprint(request_id.id_, text, keyed=False, ends=ends)
    text = f"{text} {request_id.key}"
    digest = hashlib.blake2b(f"{report.user} {text}".encode(), digest_size=16)
    return Fingerprint(f"k{digest.hexdigest()}", text, keyed=True, ends=ends)


class Attribution(NamedTuple):
    """The last recommendation of a session, to which the next listen is attributed."""

    recommendation: Recommendation
    latency_ms: float  # from the listener's request to the answer

    def to_bytes(self, codec: Codec) -> bytes:
        """Return the stored record: the latency, then the event in its wire format."""
        return _LATENCY.pack(self.latency_ms) + codec.encode(self.recommendation)

    @classmethod
    def from_bytes(cls, record: bytes, codec: Codec) -> Attribution:
        """Read a record; raises `DecodeError` if its version is unknown."""
        (latency_ms,) = _LATENCY.unpack_from(record)
        return cls(codec.decode(record[_LATENCY.size :], Recommendation), latency_ms)


class SessionPosition(NamedTuple):
    """The session of a listen, and its position there."""

    session_id: str
    position: int  # from 0
    attribution: bytes | None  # `Attribution` of the session's last recommendation
    event_id: str  # of the listen at this position; a retry has that of the first try
    answered: bool = False  # whether this is the retry of an answered call; `attribution` is the answer


def listen_of(
    report: ListenReport, at: SessionPosition, attribution: Attribution | None, timestamp_ms: int, *, ended: bool
) -> Listen:
    """Return the event. It is attributed to the last recommendation only if that names the track that was heard.

    Examples
    --------
    >>> chosen = Recommendation("g-1", 42, 7, "toppop", {"A": "T1"}, 0.1, 0, 1.0, 1000)
    >>> at = SessionPosition("s", 1, None, "g-2")
    >>> listen_of(ListenReport(42, 7, 0.5), at, Attribution(chosen, 4.5), 2000, ended=False).recommender
    'toppop'
    >>> listen_of(ListenReport(42, 8, 0.5), at, Attribution(chosen, 4.5), 2000, ended=False).recommender is None
    True
    """
    made = (at.event_id, *report, timestamp_ms, at.session_id, at.position, ended)
    if attribution is None or attribution.recommendation.track != report.track:
        return Listen(*made, recommender=None, treatments={}, propensity=None, latency_ms=None)
    chosen = attribution.recommendation
    source = (chosen.recommender, chosen.treatments, chosen.propensity, attribution.latency_ms)
    return Listen(*made, *source, chosen.policy, chosen.candidates)


def request_of(listen: Listen, request_id: str, deadline_ms: int) -> RecommendationRequest:
    """Return the request that accompanies a listen; the deadline is on the wall clock.

    Each retry of a call has its own request id, unlike the event: a reply to one must not be taken for that to another.
    """
    session = (listen.session_id, listen.position)
    return RecommendationRequest(
        request_id, listen.user, *session, listen.track, listen.fraction, listen.timestamp_ms, deadline_ms
    )
