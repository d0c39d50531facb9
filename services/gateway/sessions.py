"""Sessions of listeners in Redis, shared by all gateways, and calls of many requests in one round trip.

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
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from core.process import in_background, stop
from services.gateway.messages import Fingerprint, SessionPosition, UnavailableError
from streams.folds.sessions import GAP_MS
from streams.store.connect import AWAY, REDIS_ERRORS, find_masters, master_of, refusal_of
from streams.store.keys import gateway_session

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0
"""Of a round trip; longer than the client's own timeouts (`SERVING_TIMEOUT_S`)."""
PROBE_EVERY_S = 0.25
PROBE = "return 1"
ENDED_MS = 60_000

_HERE = Path(__file__).parent
_Call = tuple[tuple[Any, ...], asyncio.Future[Any]]


@dataclass(slots=True)
class _Queue:
    """The calls to one master."""

    master: str
    calls: list[_Call] = field(default_factory=list)  # for the next round trip
    sending: asyncio.Task[None] | None = None
    failed_key: str | None = None  # a key whose call failed, while the master does not answer
    error: str = ""


class ScriptBatcher:
    """Runs scripts on single keys; calls that are made during a round trip share the next one.

    A round trip for each call would cost a request a task switch and a system call; at a thousand requests a second
    that is more than Redis itself takes.

    Each master of a Redis Cluster has its own round trips, so one that hangs delays no call to another. After a round
    trip failed, calls to its master fail at once, until a probe finds that it answers again, or that another node has
    its slots. The client, of a Redis or a Redis Cluster, has raw replies, and time-outs below `TIMEOUT_S`.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._queues: dict[str, _Queue] = {}
        self._probing: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why calls fail at the moment; None if every master answers as far as is known."""
        failed = self._failed()
        return f"Redis does not answer ({failed[0].error})" if failed else None

    async def run(self, script: str, key: str | tuple[str, ...], *arguments: Any) -> Any:
        """Run a script on a key, or on several of one slot, and return its reply.

        Raises `UnavailableError` if Redis does not answer.
        """
        keys = (key,) if isinstance(key, str) else key
        queue = self._queue_of(keys[0])
        if queue.failed_key is not None:
            raise _unavailable(queue.error)
        return await self._call(queue, script, *keys, *arguments, keys=len(keys))

    async def close(self) -> None:
        """Disconnect."""
        if self._probing is not None:
            await stop(self._probing)
        if sending := [queue.sending for queue in self._queues.values() if queue.sending is not None]:
            await asyncio.wait(sending, timeout=TIMEOUT_S)
        await self._redis.aclose()

    def _failed(self) -> list[_Queue]:
        return [queue for queue in self._queues.values() if queue.failed_key is not None]

    def _queue_of(self, key: str) -> _Queue:
        master = master_of(self._redis, key)
        return self._queues.get(master) or self._queues.setdefault(master, _Queue(master))

    async def _call(self, queue: _Queue, script: str, *arguments: Any, keys: int = 1) -> Any:
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        queue.calls.append(((script, keys, *arguments), future))
        if queue.sending is None:
            queue.sending = asyncio.create_task(self._send(queue))
        return await future

    async def _send(self, queue: _Queue) -> None:
        try:
            while queue.calls:
                calls, queue.calls = queue.calls, []
                await self._round_trip(queue, calls)
        finally:
            queue.sending = None

    async def _round_trip(self, queue: _Queue, calls: list[_Call]) -> None:
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
                self._fail(queue, arguments[2], reply)
            if future.done():  # the client has disconnected
                continue
            if isinstance(reply, Exception):
                refusal = refusal_of(reply)
                away = _unavailable(type(reply).__name__) if refusal is None else UnavailableError(refusal)
                future.set_exception(away)
            else:
                future.set_result(reply)

    def _fail(self, queue: _Queue, key: str, error: Exception) -> None:
        if queue.failed_key is None:
            log.warning("Redis does not answer: %s (%s)", queue.master or "the server", type(error).__name__)
        queue.failed_key, queue.error = key, type(error).__name__
        waiting, queue.calls = queue.calls, []
        for _, future in waiting:
            if not future.done():
                future.set_exception(_unavailable(queue.error))
        if self._probing is None or self._probing.done():
            self._probing = in_background(self._probe())

    async def _probe(self) -> None:
        """Call a key of each failed master, on whichever node has it now, until all answer."""
        while failed := self._failed():
            await asyncio.gather(*map(self._retry, failed))
            await asyncio.sleep(PROBE_EVERY_S)

    async def _retry(self, queue: _Queue) -> None:
        await find_masters(self._redis, queue.master)
        key = queue.failed_key
        if key is None:
            return
        try:
            await self._call(self._queue_of(key), PROBE, key)
        except UnavailableError:
            return
        queue.failed_key = None
        log.warning("Redis answers again: %s", queue.master or "the server")


def _unavailable(error: str) -> UnavailableError:
    return UnavailableError(f"Redis does not answer ({error})")


class SessionStore(Protocol):
    """Gives each listen its position; updates of one listener are serialised."""

    async def next_position(self, user: int, call: Fingerprint) -> SessionPosition:
        """Return the next position in the listener's session, for a retry that of the first try.

        A new session is named by the id of its first listen.
        """

    async def store_answer(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        """Note that the listener's last call was answered, with a recommendation if there is one."""


class RedisSessionStore:
    """Sessions in Redis or Redis Cluster, one script call for each operation; a session expires after the gap.

    Raises `UnavailableError` if Redis does not answer. If Redis loses a record, the listener starts a new session. The
    prefix is the `topic_prefix` of the settings.
    """

    def __init__(self, batcher: ScriptBatcher, prefix: str) -> None:
        self._batcher = batcher
        self._prefix = prefix
        self._next_position = (_HERE / "next_position.lua").read_text(encoding="utf-8")
        self._store_answer = (_HERE / "store_answer.lua").read_text(encoding="utf-8")

    async def next_position(self, user: int, call: Fingerprint) -> SessionPosition:
        """See `SessionStore.next_position`."""
        arguments = (call.event_id, call.text, int(call.keyed), int(call.ends), GAP_MS, ENDED_MS)
        session_id, position, attribution, event_id, answered = await self._batcher.run(
            self._next_position, gateway_session(self._prefix, user), *arguments
        )
        return SessionPosition(session_id.decode(), position, attribution, event_id.decode(), bool(answered))

    async def store_answer(self, user: int, event_id: str, attribution: bytes = b"") -> None:
        """See `SessionStore.store_answer`."""
        await self._batcher.run(self._store_answer, gateway_session(self._prefix, user), event_id, attribution)
