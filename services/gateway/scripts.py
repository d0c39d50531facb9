"""Scripts in Redis: calls of many requests share a round trip, and survive the failover of a master."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

from botify.core.process import in_background, stop
from botify.services.errors import UnavailableError
from botify.streams.store.connect import AWAY, MIGRATING, REDIS_ERRORS, find_masters, find_slot, master_of, refusal_of
from botify.streams.store.node import Command, followed, pipelined

log = logging.getLogger(__name__)

TIMEOUT_S = 2.0  # of a round trip; longer than the client's own timeouts (`SERVING_TIMEOUT_S`)
AGAIN_S = 0.02  # pause before a call is sent again whose slot is migrated to another master
HOLD_S, MOST_HELD = 2.0, 128
"""How long calls wait for a master that does not answer, or its replica, and how many; later ones fail at once."""
PROBE_EVERY_S = 0.1
PROBE = "return 1"


@dataclass(slots=True)
class _Call:
    """A script on keys of one slot."""

    script: str
    keys: tuple[str, ...]
    arguments: tuple[Any, ...]
    reply: asyncio.Future[Any]
    until_s: float  # when it is no longer sent again, on the event loop's clock
    may_wait: bool = True

    def command(self) -> Command:
        # EVAL, not EVALSHA: the scripts are short, and a master that has just taken the slot over does not know them
        return ("EVAL", self.script, len(self.keys), *self.keys, *self.arguments)

    def fail(self, error: UnavailableError) -> None:
        if not self.reply.done():  # else the client has disconnected
            self.reply.set_exception(error)


@dataclass(slots=True)
class _Queue:
    """The calls to one master."""

    master: str
    calls: list[_Call] = field(default_factory=list)  # for the next round trip
    sending: asyncio.Task[None] | None = None
    failed_key: str | None = None  # a key whose call failed, while the master does not answer
    error: str = ""
    held: list[_Call] = field(default_factory=list)  # while it has not answered for less than `HOLD_S`
    held_until_s: float = 0.0  # on the event loop's clock


class ScriptBatcher:
    """Runs scripts on single keys; calls that are made during a round trip share the next one.

    A round trip for each call would cost a request a task switch and a system call; at a thousand requests a second
    that is more than Redis itself takes. Each master of a Redis Cluster has its own round trips, so one that hangs
    delays no call to another. A call whose slot is migrated, or has a new master, follows it for `TIMEOUT_S`. After a
    round trip failed, calls to its master wait until a probe finds that it answers again, or that another node has its
    slots; when that takes longer than `HOLD_S`, they fail at once. Those that were under way are sent again, so a
    script may run twice. The client has raw replies, and time-outs below `TIMEOUT_S`.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._queues: dict[str, _Queue] = {}
        self._probing: asyncio.Task[None] | None = None

    @property
    def problem(self) -> str | None:
        """Why calls fail at the moment; None if every master answers as far as is known."""
        failed = self._failed()
        return failed[0].error if failed else None

    async def run(self, script: str, key: str | tuple[str, ...], *arguments: Any) -> Any:
        """Run a script on a key, or on several of one slot, and return its reply; raises `UnavailableError`."""
        call = self._call(script, (key,) if isinstance(key, str) else key, arguments)
        self._put(call)
        return await call.reply

    async def close(self) -> None:
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

    def _call(self, script: str, keys: tuple[str, ...], arguments: tuple[Any, ...] = ()) -> _Call:
        loop = asyncio.get_running_loop()
        return _Call(script, keys, arguments, loop.create_future(), loop.time() + TIMEOUT_S)

    def _put(self, call: _Call) -> None:
        """Let a call share its master's next round trip, or wait while that does not answer."""
        queue = self._queue_of(call.keys[0])
        if queue.failed_key is None:
            self._send_in(queue, call)
        else:
            self._hold(queue, call)

    def _hold(self, queue: _Queue, call: _Call) -> None:
        until_s, error = min(queue.held_until_s, call.until_s), UnavailableError(queue.error)
        queue.held = [held for held in queue.held if not held.reply.done()]
        room = sum(len(failed.held) for failed in self._failed()) < MOST_HELD
        if call.may_wait and room and _now_s() < until_s:
            queue.held.append(call)
            asyncio.get_running_loop().call_at(until_s, call.fail, error)
        else:
            call.fail(error)

    def _send_in(self, queue: _Queue, call: _Call) -> None:
        queue.calls.append(call)
        if queue.sending is None:
            queue.sending = asyncio.create_task(self._send(queue))

    async def _send(self, queue: _Queue) -> None:
        try:
            while queue.calls:
                calls, queue.calls = queue.calls, []
                await self._round_trip(queue, calls)
        finally:
            queue.sending = None

    async def _round_trip(self, queue: _Queue, calls: list[_Call]) -> None:
        migrating = []
        for call, reply in zip(calls, await self._replies(calls), strict=True):
            if isinstance(reply, MIGRATING) and _now_s() < call.until_s:
                await find_slot(self._redis, reply)
                migrating.append(call)
            elif isinstance(reply, AWAY) and not isinstance(reply, MIGRATING):
                self._fail(queue, call.keys[0], reply)
                self._hold(queue, call)
            elif isinstance(reply, Exception):
                refusal = refusal_of(reply)
                call.fail(UnavailableError(refusal) if refusal else UnavailableError.of_redis(reply))
            elif not call.reply.done():  # else the client has disconnected
                call.reply.set_result(reply)
        if migrating:
            await asyncio.sleep(AGAIN_S)
            for call in migrating:
                self._put(call)

    async def _replies(self, calls: list[_Call]) -> list[Any]:
        commands = [call.command() for call in calls]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                replies = await pipelined(self._redis, calls[0].keys[0], commands)
                return [await followed(self._redis, *each) for each in zip(replies, commands, strict=True)]
        except REDIS_ERRORS as error:
            return [error] * len(calls)

    def _fail(self, queue: _Queue, key: str, error: Exception) -> None:
        if queue.failed_key is None:
            log.warning("Redis does not answer: %s (%s)", queue.master or "the server", type(error).__name__)
            queue.held_until_s = _now_s() + HOLD_S
        queue.failed_key, queue.error = key, str(UnavailableError.of_redis(error))
        waiting, queue.calls = queue.calls, []
        for call in waiting:
            self._hold(queue, call)
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
        probe = self._call(PROBE, (key,))
        probe.may_wait = False
        self._send_in(self._queue_of(key), probe)
        try:
            await probe.reply
        except UnavailableError:
            return
        queue.failed_key = None
        log.warning("Redis answers again: %s", queue.master or "the server")
        held, queue.held = queue.held, []
        for call in held:
            if not call.reply.done():
                self._put(call)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
