"""Redis calls of many requests in one round trip."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from services.gateway.errors import UnavailableError
from streams.store.refusals import refusal_of

TIMEOUT_S = 2.0

_Call = tuple[tuple[Any, ...], asyncio.Future[Any]]


class Batching:
    """Runs scripts on single keys. What comes up during a round trip goes together with the next one.

    A call of its own would cost each request a task switch and a system call; at a thousand requests a second that is
    more than Redis itself needs.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
        With raw replies.
    """

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        self._calls: list[_Call] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, script: str, key: str, *arguments: Any) -> Any:
        """Run a script, and return its reply.

        Raises
        ------
        UnavailableError
            Redis does not answer.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._calls.append(((script, 1, key, *arguments), future))
        if self._sending is None:
            self._sending = asyncio.create_task(self._send())
        return await future

    async def close(self) -> None:
        """Leave Redis."""
        if self._sending is not None:
            await asyncio.wait([self._sending], timeout=TIMEOUT_S)
        await self._redis.aclose()

    async def _send(self) -> None:
        try:
            while self._calls:
                calls, self._calls = self._calls, []
                await self._round_trip(calls)
        finally:
            self._sending = None

    async def _round_trip(self, calls: list[_Call]) -> None:
        try:
            async with asyncio.timeout(TIMEOUT_S), self._redis.pipeline(transaction=False) as pipeline:
                for arguments, _ in calls:
                    # EVAL, not EVALSHA: Redis Cluster pipelines refuse the latter, and the scripts are short
                    pipeline.eval(*arguments)
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, TimeoutError, OSError) as error:
            replies = [error] * len(calls)
        for (_, future), reply in zip(calls, replies, strict=True):
            if future.done():  # the client has gone away
                continue
            if isinstance(reply, Exception):
                why = refusal_of(reply) or f"Redis does not answer ({type(reply).__name__})"
                future.set_exception(UnavailableError(why))
            else:
                future.set_result(reply)
