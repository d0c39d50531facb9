"""Writes that Redis refuses: it is there, but out of memory, out of disk, or no primary.

A refused script has written nothing, so it may be tried again. Who writes waits for `PATIENCE_S`, says so, and then
ends, as it does when Redis is away; whoever starts it again begins by waiting for its claim.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar

from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisClusterException, RedisError, ResponseError

from core.errors import BotifyError
from streams.folds.projection import Changes
from streams.store.connect import PATIENCE_S
from streams.store.keys import write_probe
from streams.store.protocol import Claim, Outcome, Store

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
PROBE_TIMEOUT_S = 3.0
_CODES = ("MISCONF", "NOREPLICAS")
_WAY_OUT = {
    OutOfMemoryError: "raise `maxmemory`, or give it less to keep (docs/operations.md, Growing)",
    ReadOnlyError: "REDIS_URL must name the primary",
}


class WritesRefusedError(BotifyError):
    """Redis has refused a write for too long; nothing is lost, the next start goes on from the checkpoint."""


def refusal_of(error: BaseException) -> str | None:
    """Return why Redis refuses writes; None where the error says something else.

    Examples
    --------
    >>> refusal_of(OutOfMemoryError("command not allowed when used memory > 'maxmemory'."))
    "Redis is out of memory and refuses writes: command not allowed when used memory > 'maxmemory'"
    >>> refusal_of(ResponseError("MISCONF Errors writing to the AOF file: No space left on device"))
    'Redis refuses writes: MISCONF Errors writing to the AOF file: No space left on device'
    >>> refusal_of(ResponseError("WRONGTYPE")) is None
    True
    """
    text = str(error).partition(" script: ")[0].rstrip(".")
    if isinstance(error, OutOfMemoryError):
        return f"Redis is out of memory and refuses writes: {text}"
    if isinstance(error, ReadOnlyError) or (isinstance(error, ResponseError) and text.startswith(_CODES)):
        return f"Redis refuses writes: {text}"
    return None


class Writes:
    """Whether Redis takes what this process writes; read from any thread.

    Attributes
    ----------
    refused : int
        Tries that were refused.
    probed : str | None
        Why the last probe found that Redis takes none; see `probe_writes`.
    """

    def __init__(self) -> None:
        self.refused = 0
        self.probed: str | None = None
        self._why: dict[int, str] = {}

    def refuse(self, partition: int, why: str) -> None:
        """Note that a write was refused; say it where it is the first."""
        if not self._why:
            log.error("%s; retrying for %.0f s", why, PATIENCE_S, extra={"partition": partition})
        self.refused += 1
        self._why[partition] = why

    def forget(self, partition: int) -> None:
        """Note that a partition's write was taken, or is given up."""
        if self._why.pop(partition, None) is not None and not self._why:
            log.info("Redis accepts writes again")

    def problem(self) -> str | None:
        """Return why a write is refused; a `Probe`."""
        return next(iter(self._why.copy().values()), self.probed)


class PatientStore:
    """A `Store` whose claims and applies are tried again while Redis refuses them.

    Parameters
    ----------
    store : Store
    writes : Writes
        Told of what is refused.
    """

    def __init__(
        self,
        store: Store,
        writes: Writes,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._writes = writes
        self._clock = clock
        self._sleep = sleep
        self.read_whole = store.read_whole
        self.read_fields = store.read_fields

    async def claim(self, partition: int, owner: str, topic_id: str) -> Claim:
        """Claim; see `Store.claim`. Raises `WritesRefusedError`."""
        return await self._patiently(partition, lambda: self._store.claim(partition, owner, topic_id))

    async def apply(
        self, partition: int, claim: Claim, expected_next: int | None, new_next: int, changes: Changes
    ) -> Outcome:
        """Apply; see `Store.apply`. Raises `WritesRefusedError`."""
        return await self._patiently(
            partition, lambda: self._store.apply(partition, claim, expected_next, new_next, changes)
        )

    async def _patiently(self, partition: int, write: Callable[[], Awaitable[T]]) -> T:
        since_s: float | None = None
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                done = await write()
            except ResponseError as error:
                if (why := refusal_of(error)) is None:
                    raise
                now_s = self._clock()
                since_s = now_s if since_s is None else since_s
                self._writes.refuse(partition, why)
                if now_s - since_s >= PATIENCE_S:
                    raise _given_up(error, why) from error
                try:
                    await self._sleep(pause_s)
                except asyncio.CancelledError:
                    self._writes.forget(partition)
                    raise
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                self._writes.forget(partition)
                return done


async def probe_writes(redis: Any, prefix: str, partitions: Iterable[int]) -> str | None:
    """Ask Redis for writes that change nothing, and return why it would refuse one; None where it would take them all.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    prefix : str
        Of the namespaces that are written.
    partitions : iterable of int
        Each has a slot of its own, so on Redis Cluster all nodes are asked that matter.
    """
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S), redis.pipeline(transaction=False) as pipeline:
            _ask(pipeline, prefix, partitions)
            return _problem(await pipeline.execute(raise_on_error=False))
    except (RedisError, RedisClusterException, TimeoutError) as error:
        return _problem([error])


def probe_writes_blocking(redis: Any, prefix: str, partitions: Iterable[int]) -> str | None:
    """Do as `probe_writes`, with a `redis.Redis` or `RedisCluster`; raises what the client raises."""
    pipeline = redis.pipeline(transaction=False)
    _ask(pipeline, prefix, partitions)
    return _problem(pipeline.execute(raise_on_error=False))


def _ask(pipeline: Any, prefix: str, partitions: Iterable[int]) -> None:
    for partition in partitions:
        pipeline.setrange(write_probe(prefix, partition), 0, b"")  # writes nothing and makes no key, but is refused


def _problem(replies: Iterable[object]) -> str | None:
    for reply in replies:
        if isinstance(reply, Exception):
            if (why := refusal_of(reply)) is not None:
                return why
            if not isinstance(reply, ResponseError):  # it may forbid us the probe, and nothing else
                return f"Redis does not answer ({type(reply).__name__})"
    return None


def _given_up(error: RedisError, why: str) -> WritesRefusedError:
    way_out = next((way for kind, way in _WAY_OUT.items() if isinstance(error, kind)), "its log says more")
    return WritesRefusedError(
        f"{why}, for {PATIENCE_S:.0f} s: {way_out}. Nothing is lost: after a restart it resumes from its checkpoint"
    )
