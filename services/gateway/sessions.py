"""Listeners at the gateways: their names and calls, the records that these become, and what Redis keeps of each.

Clients of Botify's API name neither session nor position, and a load balancer may send each of their requests to
another gateway. So a session is a small record in Redis: its id, the number of its listens, and the last
recommendation, to which the next listen is attributed. The worker's state would not do: it lags the topic by some
milliseconds, in which a second request would take the same position.

The record also has the last call, so that a client's retry counts once. A client retries after a 503, which means that
the listen may not be in the topic; it may be there nevertheless. A retry gets the position and the event id of the
first try, and the worker drops the copy. A call is a retry

- with a key (`Idempotency-Key`), if the last call had the same key and the same listen, answered or not. If it was
  answered, the retry gets the same answer, and nothing is published.
- without a key, if the last call reported the same share of the same track and was not answered. A listener hears a
  track again after an answer, so a genuine repeat counts twice. So does the retry of a client that lost our answer: the
  two cannot be told apart.

Any other call means that the client has given up on the last one. An ended session is kept for `ENDED_MS`, for the
retry of its last call.

What listeners say and are shown are facts on the topic `feedback`; workers fold them (`botify.streams.folds.feedback`),
and the gateways read the result.
"""

from __future__ import annotations

import asyncio
import hashlib
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from botify.core.kafka.config import key_of, partition_of
from botify.schemas.codec import Codec
from botify.schemas.events import SHOWN, Listen, Recommendation, RecommendationRequest
from botify.schemas.external_ids import UserIds, chosen
from botify.services.gateway.rpc import RpcClient
from botify.services.gateway.scripts import ScriptBatcher
from botify.services.gateway.state import EventClock
from botify.streams.folds.feedback import ATTRIBUTES, NAMES, OPINIONS, Said, read_attributes, read_name, read_said
from botify.streams.folds.sessions import GAP_MS
from botify.streams.names import CLAIMED_MS, fact_of
from botify.streams.store.keys import (
    feedback_of,
    gateway_feedback,
    gateway_given,
    gateway_items,
    gateway_name,
    gateway_session,
    gateway_slates,
    partition_key,
)

_TRACK = np.dtype("<i4")
_LATENCY = struct.Struct("<d")


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
    """What is the same in a call and its retries; with a key also the event id, a hash, even if the session is lost."""

    event_id: str  # of the listen, unless the call is a retry of one without a key
    text: str  # all that a retry repeats
    keyed: bool  # whether the text contains a key, so that an equal text is always a retry
    ends: bool  # whether the listen ends the session


def fingerprint_of(report: ListenReport, request_id: RequestId, *, ends: bool) -> Fingerprint:
    """Return the fingerprint of a call. A key that is reused with another track gives another listen, not a retry."""
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
    """Return the request that accompanies a listen; each retry has its own id, as a reply to one is none to another."""
    session = (listen.session_id, listen.position)
    return RecommendationRequest(
        request_id, listen.user, *session, listen.track, listen.fraction, listen.timestamp_ms, deadline_ms
    )


ENDED_MS = 60_000
SLATES = 4  # slates of a listener to which a listen is attributed
_SESSION = "local session = redis.call('HMGET', KEYS[1], 'id', 'ended') return not session[2] and session[1]"
_FIELD = "return redis.call('HGET', KEYS[1], ARGV[1])"
_ALL_SLATES = "return redis.call('LRANGE', KEYS[1], 0, -1)"
_PUT_SLATE = (
    "redis.call('LPUSH', KEYS[1], ARGV[1]) redis.call('LTRIM', KEYS[1], 0, ARGV[2] - 1) "
    "return redis.call('PEXPIRE', KEYS[1], ARGV[3])"
)
GIVEN_SESSIONS, MOST_GIVEN = 8, 1_000
"""Sessions of a listener of which is known what answers gave, and tracks of each, the newest."""
_PUT_GIVEN = (
    "if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[3]) and redis.call('HEXISTS', KEYS[1], ARGV[1]) == 0 then "
    "redis.call('DEL', KEYS[1]) end "
    "local given = (redis.call('HGET', KEYS[1], ARGV[1]) or '') .. ARGV[2] "
    "redis.call('HSET', KEYS[1], ARGV[1], string.sub(given, -ARGV[4])) return redis.call('PEXPIRE', KEYS[1], ARGV[5])"
)
_CLAIM = (
    "redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) redis.call('PEXPIRE', KEYS[1], ARGV[2]) "
    "return redis.call('GET', KEYS[1])"
)
_DELETE = "return redis.call('DEL', KEYS[1])"


def _script(name: str) -> str:
    return Path(__file__).with_name(f"{name}.lua").read_text(encoding="utf-8")


class SessionStore:
    """Gives each listen its position, one script call for each operation; a session expires after the gap.

    Updates of one listener are serialised. Raises `UnavailableError` if Redis does not answer. If Redis loses a record,
    the listener starts a new session.
    """

    def __init__(self, batcher: ScriptBatcher, prefix: str) -> None:
        self._batcher = batcher
        self._prefix = prefix
        self._next_position, self._store_answer = _script("next_position"), _script("store_answer")

    async def next_position(self, user: int, call: Fingerprint) -> SessionPosition:
        """Return the next position in the listener's session, named by its first listen; a retry has its first."""
        arguments = (call.event_id, call.text, int(call.keyed), int(call.ends), GAP_MS, ENDED_MS)
        session_id, position, attribution, event_id, answered = await self._batcher.run(
            self._next_position, gateway_session(self._prefix, user), *arguments
        )
        return SessionPosition(session_id.decode(), position, attribution, event_id.decode(), bool(answered))

    async def store_answer(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        """Note that the listener's last call was answered, with a recommendation if there is one."""
        await self._batcher.run(self._store_answer, gateway_session(self._prefix, user), event_id, attribution)


class ListenerStore:
    """Slates, feedback, names and item numbers, one script call for each operation; raises as `SessionStore`.

    `namespace` returns the live namespace, without waiting; `partitions` is the number of those of the feedback topic.
    """

    def __init__(self, batcher: ScriptBatcher, prefix: str, namespace: Callable[[], str], partitions: int) -> None:
        self._batcher = batcher
        self._prefix = prefix
        self._namespace, self._partitions = namespace, partitions
        self._number = _script("number_item")

    async def session(self, user: int) -> str | None:
        """Return the listener's current session, None if there is none."""
        session = await self._batcher.run(_SESSION, gateway_session(self._prefix, user))
        return None if session is None else session.decode()

    async def said(self, user: int) -> list[Said]:
        """Return what the listener said last of each track, in each group of kinds, what was withdrawn included."""
        return read_said(await self._feedback(user, OPINIONS))

    async def shown(self, user: int) -> bytes:
        """Return which tracks the listener was shown, as `read_shown` reads it."""
        return await self._feedback(user, SHOWN) or b""

    async def attributes(self, user: int) -> tuple[int, dict[str, str]]:
        """Return the attributes of the listener, and when they were told, in ms."""
        return read_attributes(await self._feedback(user, ATTRIBUTES))

    async def _feedback(self, user: int, name: str) -> bytes | None:
        key = partition_key(feedback_of(self._namespace()), partition_of(user, self._partitions), name)
        found: bytes | None = await self._batcher.run(_FIELD, key, user)
        return found

    async def slates(self, user: int) -> list[bytes]:
        """Return the slates last shown, the newest first."""
        found: list[bytes] = await self._batcher.run(_ALL_SLATES, gateway_slates(self._prefix, user))
        return found

    async def put_slate(self, user: int, slate: bytes) -> None:
        await self._batcher.run(_PUT_SLATE, gateway_slates(self._prefix, user), slate, SLATES, GAP_MS)

    async def given(self, user: int, session: str) -> list[int]:
        """Return which tracks answers gave a listener in a session, oldest first."""
        record = await self._batcher.run(_FIELD, gateway_given(self._prefix, user), session)
        found: list[int] = np.frombuffer(record or b"", dtype=_TRACK).tolist()
        return found

    async def put_given(self, user: int, session: str, tracks: Sequence[int]) -> None:
        """Add tracks to those that answers gave; they are forgotten half an hour after the last."""
        packed, bounds = np.array(tracks, dtype=_TRACK).tobytes(), (GIVEN_SESSIONS, MOST_GIVEN * _TRACK.itemsize)
        await self._batcher.run(_PUT_GIVEN, gateway_given(self._prefix, user), session, packed, *bounds, GAP_MS)

    async def number_of(self, external_id: str, lowest: int) -> int:
        """Return the number of a new item, at least `lowest`; the same for the same id, at every gateway."""
        return int(await self._batcher.run(self._number, gateway_items(self._prefix), external_id, lowest))

    async def names(self, users: Sequence[int]) -> list[str | None]:
        """Return what listeners are called by the state, None where it does not know."""
        records = await asyncio.gather(*[self._feedback(user, NAMES) for user in users])
        return [read_name(record) for record in records]

    async def claim(self, user: int, name: str) -> str:
        """Claim a number for a name until the state has it, and return the name that has claimed it."""
        owner: bytes = await self._batcher.run(_CLAIM, gateway_name(self._prefix, user), name, CLAIMED_MS)
        return owner.decode()

    async def erase(self, user: int) -> None:
        """Forget what the gateways keep of the listener, that of earlier versions included."""
        for key in (gateway_session, gateway_slates, gateway_given, gateway_name, gateway_feedback):
            await self._batcher.run(_DELETE, key(self._prefix, user))


KEPT_S = 60.0  # an erasure at another gateway forgets the name; later the fact is published again
MOST_KEPT = 50_000  # names of at most 200 characters, so at most 50 MB
Resolved = tuple[int, dict[int, str | None]]


class ListenerNames:
    """Resolves names, in the event loop's thread; raises `UserIdError`, and `UnavailableError` without Redis.

    `botify.streams.names` has the rules, and numbers many names at once.
    """

    def __init__(
        self, users: UserIds, listeners: ListenerStore, rpc: RpcClient, clock: EventClock, topic: str, codec: Codec
    ) -> None:
        self._users, self._listeners = users, listeners
        self._rpc, self._clock, self._topic, self._encode = rpc, clock, topic, codec.encode
        self._kept: dict[str, tuple[int, float]] = {}  # name -> number, and until when on the monotonic clock

    def known_as(self, name: str) -> int | str:
        """Return what answers call a listener: the name, or the number where the name is one."""
        return self._users.known_as(name)

    async def find(self, name: str) -> int:
        """Return the number of a name, or the one that it would get."""
        return (await self.resolve(name))[0]

    async def number_of(self, name: str, request_id: str, resolved: Resolved | None = None) -> int:
        """Return the number of a name, which is its own from now on; raises `UnavailableError` without a broker.

        `resolved` is what `resolve` has returned for it, if that was just now.
        """
        number, owners = resolved or await self.resolve(name)
        if not owners:
            return number
        while owners[number] is None:
            owners[number] = await self._listeners.claim(number, name)
            if owners[number] == name:
                fact = self._encode(fact_of(name, number, self._clock.now_ms(number)))
                await self._rpc.publish(f"{request_id}:{number}", self._topic, key_of(number), fact)
            number = chosen(name, owners)
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[name] = number, time.monotonic() + KEPT_S
        return number

    def forget(self, name: str) -> None:
        """Forget a name: its listener is erased."""
        self._kept.pop(name, None)

    async def resolve(self, name: str) -> Resolved:
        """Return the number of a name, and who has its candidates: nobody is named where the number is its own."""
        # first: candidates are hashes, and most calls are of few names
        number, until_s = self._kept.get(name, (0, 0.0))
        if time.monotonic() < until_s:
            return number, {}
        candidates = self._users.candidates(name)
        if len(candidates) == 1:
            return candidates[0], {}
        owners = dict(zip(candidates, await self._listeners.names(candidates), strict=True))
        return chosen(name, owners), owners
