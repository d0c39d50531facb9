"""Redis calls of many requests in one round trip."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from services.gateway.background import in_background, stop
from services.gateway.errors import UnavailableError
from streams.store.connect import AWAY, REDIS_ERRORS, find_masters, master_of
from streams.store.refusals import refusal_of

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
