"""Redis calls of many requests in one round trip.

Where each listener's session is, for all gateways together.

Clients of Botify's API say neither session nor position, and a balancer may send each of their requests to another
gateway. So a session is a small record in Redis: its id, how many listens it has, and the last recommendation, which
the next listen names as what led to it. The derived state of the worker would not do: it follows the topic by some
milliseconds, in which a second request would take the same position.

The record knows the last call as well, so that a client's retry counts once. A client comes again after a 503, which
says that the listen may not be in the topic; it may be there all the same. The retry takes the place of the first try
and the id of its listen, and the worker drops the copy. What is a retry?

- Where the client gives a key (`Idempotency-Key`): the same key with the same listen, answered or not. One that was
  answered gets its answer again, and nothing is told.
- Otherwise: the same track, heard as long, before the last call was answered. A listener hears a track a second time
  when they were given an answer to the first; until then there is nothing they could have gone on with. So a genuine
  repeat counts twice. Without a key, so does the retry of a client that lost an answer of ours: the two look alike.
- Any other call: the client has given up on the last one.

A session that ended is kept for `ENDED_MS`, for the retry of its last call.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any, Protocol

from core.process import in_background, stop
from services.gateway.errors import UnavailableError
from services.gateway.messages import Said, SessionPosition
from streams.folds.sessions import GAP_MS
from streams.store.connect import AWAY, REDIS_ERRORS, find_masters, master_of, refusal_of
from streams.store.keys import gateway_session

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
"""Of a round trip; longer than the client itself waits for a connection and an answer (`SERVING_TIMEOUT_S`)."""
PROBE_EVERY_S = 0.25
PROBE = "return 1"

_Call = tuple[tuple[Any, ...], asyncio.Future[Any]]


class _Lane:
    """The calls that go to one node.

    Attributes
    ----------
    calls : list
        Those that wait for the next round trip.
    failed_key : str | None
        A key whose call failed, while the node does not answer.
    """

    __slots__ = ("calls", "failed_key", "master", "sending", "why")

    def __init__(self, master: str) -> None:
        self.master = master
        self.calls: list[_Call] = []
        self.sending: asyncio.Task[None] | None = None
        self.failed_key: str | None = None
        self.why = ""


class Batching:
    """Runs scripts on single keys. What comes up during a round trip goes together with the next one.

    A call of its own would cost each request a task switch and a system call; at a thousand requests a second that is
    more than Redis itself needs.

    Each master of a Redis Cluster has round trips of its own, so that one that hangs delays nobody else's calls. After
    a round trip failed, calls to that master fail at once, until a probe finds that it answers again, or that another
    node has its slots.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies, and time-outs below `TIMEOUT_S`.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._lanes: dict[str, _Lane] = {}
        self._probing: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why calls fail at the moment; None where every master answers as far as is known."""
        failed = [lane for lane in self._lanes.values() if lane.failed_key is not None]
        return None if not failed else f"Redis does not answer ({failed[0].why})"

    async def run(self, script: str, key: str, *arguments: Any) -> Any:
        """Run a script, and return its reply.

        Raises
        ------
        UnavailableError
            Redis does not answer.
        """
        lane = self._lane_of(key)
        if lane.failed_key is not None:
            raise _unavailable(lane.why)
        return await self._call(lane, script, key, *arguments)

    async def close(self) -> None:
        """Leave Redis."""
        if self._probing is not None:
            await stop(self._probing)
        if sending := [lane.sending for lane in self._lanes.values() if lane.sending is not None]:
            await asyncio.wait(sending, timeout=TIMEOUT_S)
        await self._redis.aclose()

    def _lane_of(self, key: str) -> _Lane:
        master = master_of(self._redis, key)
        return self._lanes.get(master) or self._lanes.setdefault(master, _Lane(master))

    async def _call(self, lane: _Lane, script: str, key: str, *arguments: Any) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        lane.calls.append(((script, 1, key, *arguments), future))
        if lane.sending is None:
            lane.sending = asyncio.create_task(self._send(lane))
        return await future

    async def _send(self, lane: _Lane) -> None:
        try:
            while lane.calls:
                calls, lane.calls = lane.calls, []
                await self._round_trip(lane, calls)
        finally:
            lane.sending = None

    async def _round_trip(self, lane: _Lane, calls: list[_Call]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipeline:
                for arguments, _ in calls:
                    # EVAL, not EVALSHA: Redis Cluster pipelines refuse the latter, and the scripts are short
                    pipeline.eval(*arguments)
                replies = await pipeline.execute(raise_on_error=False)
        except REDIS_ERRORS as error:
            replies = [error] * len(calls)
        for (arguments, future), reply in zip(calls, replies, strict=True):
            if isinstance(reply, AWAY):
                self._fail(lane, arguments[2], reply)
            if future.done():  # the client has gone away
                continue
            if isinstance(reply, Exception):
                why = refusal_of(reply)
                future.set_exception(_unavailable(type(reply).__name__) if why is None else UnavailableError(why))
            else:
                future.set_result(reply)

    def _fail(self, lane: _Lane, key: str, error: Exception) -> None:
        if lane.failed_key is None:
            log.warning("Redis does not answer: %s (%s)", lane.master or "the server", type(error).__name__)
        lane.failed_key, lane.why = key, type(error).__name__
        waiting, lane.calls = lane.calls, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(_unavailable(lane.why))
        if self._probing is None or self._probing.done():
            self._probing = in_background(self._probe())

    async def _probe(self) -> None:
        """Try a key of each master that failed, on whichever node has it now, until all are answered."""
        while failed := [lane for lane in self._lanes.values() if lane.failed_key is not None]:
            await asyncio.gather(*map(self._try, failed))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _try(self, lane: _Lane) -> None:
        await find_masters(self._redis, lane.master)
        key = lane.failed_key
        if key is None:
            return
        try:
            await self._call(self._lane_of(key), PROBE, key)
        except UnavailableError:
            return
        lane.failed_key = None
        log.warning("Redis answers again: %s", lane.master or "the server")


def _unavailable(why: str) -> UnavailableError:
    return UnavailableError(f"Redis does not answer ({why})")


ENDED_MS = 60_000

_HERE = Path(__file__).parent


class SessionStore(Protocol):
    """Gives each listen its place; one writer at a time for each listener."""

    async def take(self, user: int, said: Said) -> SessionPosition:
        """Return the next place in the listener's session, or the first of a new one, which is called as its listen.

        A retry's place is that of the first try.
        """

    async def remember(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        """Take in that the listener's last call was answered, with a recommendation where there is one."""


class RedisSessionStore:
    """Sessions in Redis or Redis Cluster, one script call each way; a session expires by itself after the gap.

    Raises `UnavailableError` where Redis does not answer. If Redis loses a record, the listener begins a new session.

    Parameters
    ----------
    batching : Batching
    prefix : str
        `topic_prefix` of the settings.
    """

    def __init__(self, batching: Batching, prefix: str) -> None:
        self._batching = batching
        self._prefix = prefix
        self._take_place = (_HERE / "take_place.lua").read_text(encoding="utf-8")
        self._remember = (_HERE / "remember.lua").read_text(encoding="utf-8")

    async def take(self, user: int, said: Said) -> SessionPosition:
        """See `SessionStore.take`."""
        told = (said.event_id, said.text, int(said.keyed), int(said.ends), GAP_MS, ENDED_MS)
        session_id, position, attribution, event_id, answered = await self._batching.run(
            self._take_place, gateway_session(self._prefix, user), *told
        )
        return SessionPosition(session_id.decode(), position, attribution, event_id.decode(), bool(answered))

    async def remember(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        """See `SessionStore.remember`."""
        await self._batching.run(self._remember, gateway_session(self._prefix, user), event_id, attribution)
