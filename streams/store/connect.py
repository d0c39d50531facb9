"""Connections to Redis, standalone or Cluster, and how long a call is repeated.

In a cluster another node may have a slot at any time. A node that is asked in vain says so (MOVED, ASK), or is gone, or
hangs without closing its connections. Only a command that times out reveals the latter, and only a client that then
asks the other nodes finds the replica that took over. redis-py does so after single commands, but not after commands on
a connection of our own (`streams/store/node.py`), or a call that was cancelled: callers of those bound them by
`timeout_s`, and call `find_slot` or `find_masters` after a failure.

Redis may also refuse writes while it answers: out of memory, out of disk, or no primary. `patiently` repeats both kinds
of calls for `PATIENCE_S`; then the process ends, and the next one starts with its claim.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterError,
    MovedError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from botify.core.errors import BotifyError
from botify.core.kafka.admin import accepts_connections
from botify.core.settings import Settings
from botify.core.telemetry import DurationHistogram
from botify.streams.store.keys import write_probe
from botify.streams.store.node import pipelined

log = logging.getLogger(__name__)

T = TypeVar("T")

# Every write is an `apply`, which may be repeated, so all commands are retried for about 20 s. On a cluster `patiently`
# does so, because redis-py asks the same node again, or retries without a pause.
_BACKOFF = ExponentialBackoff(cap=1.0, base=0.02)
_RETRIES = 24
_BLOCKING_RETRIES = 3
_CLUSTER_RETRIES = 0
_BLOCKING_CLUSTER_RETRIES = 1
PATIENCE_S = 20.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 1.0
PROBE_TIMEOUT_S = 3.0
TIMEOUT_S = 10.0  # how long a reply may take: tools copy whole collections in one command
REQUIRED_TIMEOUT_S = 5.0  # … of commands, whose users wait for the error
FOLDING_TIMEOUT_S = 5.0  # … while folding: an apply takes milliseconds, a slow disk a second or two
SERVING_TIMEOUT_S = 0.75
"""… while a listener waits: twice that, for a new connection and the reply, is less than any deadline."""
_REFUSALS = ("MISCONF", "NOREPLICAS")
_WAY_OUT = {
    OutOfMemoryError: "raise `maxmemory`, or give it less to keep (docs/operations.md, Growing)",
    ReadOnlyError: "REDIS_URL must name the primary",
}
_CLUSTER = "+cluster://"
_TLS = "rediss"


class _PackInC:
    """Packs commands with hiredis, as redis-py does for blocking connections only; an apply has 10,000 arguments."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]  # some names are two words


class _Connection(_PackInC, redis_asyncio.Connection):
    pass


class _TLSConnection(_PackInC, redis_asyncio.SSLConnection):
    pass


class _Nodes(redis.cluster.NodesManager):
    """Makes a node that a command is redirected to (ASK) and that has no slots so far: redis/redis-py#4015."""

    def get_node(self, host: Any = None, port: Any = None, node_name: str | None = None) -> Any:
        found = super().get_node(host, port, node_name)
        return found or _made(self, redis.cluster.ClusterNode, node_name)


class _AsyncNodes(redis_asyncio.cluster.NodesManager):
    __slots__ = ()  # or an object could not become one

    def get_node(self, host: Any = None, port: Any = None, node_name: str | None = None) -> Any:
        found = super().get_node(host, port, node_name)
        return found or _made(self, redis_asyncio.cluster.ClusterNode, node_name, **self.connection_kwargs)


def _made(nodes: Any, kind: Callable[..., Any], node_name: str | None, **options: Any) -> Any:
    if not node_name:
        return None
    host, _, port = node_name.rpartition(":")
    node = nodes.nodes_cache[node_name] = kind(host, int(port), redis.cluster.PRIMARY, **options)
    return node


REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""Errors of a call to Redis; those of the cluster client itself are no `RedisError`."""

MIGRATING = (
    AskError,  # and MovedError: another node has the slot, or this key of it
    TryAgainError,  # each of two nodes has some of the keys
)
"""Errors of a command that was not run, because its slot is migrated to another node, or was."""

AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterError,  # it is down, or redis-py has followed too many redirections
    *MIGRATING,
    RedisClusterException,
    OSError,
)
"""Errors after which another node, or the same one later, may answer."""


class RedisUnreachableError(BotifyError):
    """Redis does not answer."""


def connect_async(settings: Settings, timeout_s: float = TIMEOUT_S) -> Any:
    """Return an asyncio client with raw replies, which connects when first used; replies come within `timeout_s`."""
    url = settings.redis_url
    options = _options(settings, timeout_s)
    if _CLUSTER in url:
        retry = AsyncRetry(_BACKOFF, _CLUSTER_RETRIES)
        client = redis_asyncio.RedisCluster.from_url(url.replace(_CLUSTER, "://"), retry=retry, **options)
        client.nodes_manager.__class__ = _AsyncNodes
        return client
    connection = _TLSConnection if url.startswith(_TLS) else _Connection
    pool = redis_asyncio.ConnectionPool.from_url(url, retry=AsyncRetry(_BACKOFF, _RETRIES), **options)
    pool.connection_class = connection
    return redis_asyncio.Redis.from_pool(pool)


def master_of(redis: Any, key: str) -> str:
    """Return the name of a key's node, of a cluster's asyncio client; empty if there is only one node."""
    if not isinstance(redis, redis_asyncio.RedisCluster):
        return ""
    try:
        node = redis.get_node_from_key(key)
    except SlotNotCoveredError:  # before the first command
        return ""
    return "" if node is None else str(node.name)


async def find_masters(redis: Any, failed: str = "") -> None:
    """Ask a cluster which nodes have which slots, `failed` last; if no node answers, the next call fails too."""
    if isinstance(redis, redis_asyncio.RedisCluster):
        with contextlib.suppress(*REDIS_ERRORS):
            await redis.nodes_manager.initialize(last_failed_node_name=failed or None)


async def find_slot(redis: Any, error: BaseException) -> None:
    """Find out where a slot is now, after one of the errors `AWAY`; during a migration (ASK, TRYAGAIN) it stays."""
    if isinstance(error, MovedError):
        await redis.nodes_manager.move_slot(error)
    elif not isinstance(error, MIGRATING):
        await find_masters(redis)


class WritesRefusedError(BotifyError):
    """Redis has refused a write for too long; nothing is lost, and the next start resumes from the checkpoint."""


def refusal_of(error: BaseException) -> str | None:
    """Return why Redis refuses writes; None for other errors."""
    text = str(error).partition(" script: ")[0].rstrip(".")
    if isinstance(error, OutOfMemoryError):
        return f"Redis is out of memory and refuses writes: {text}"
    if isinstance(error, ReadOnlyError) or (isinstance(error, ResponseError) and text.startswith(_REFUSALS)):
        return f"Redis refuses writes: {text}"
    return None


class Writes:
    """Whether Redis accepts the writes of this process, and how long applies take; read from any thread.

    `refused` counts refused tries; `probed` is the result of the last probe, see `probe_writes`.
    """

    def __init__(self) -> None:
        self.durations = DurationHistogram()
        self.refused = 0
        self.probed: str | None = None
        self._why: dict[int, str] = {}

    def refuse(self, partition: int, why: str) -> None:
        if not self._why:
            log.error("%s; retrying for %.0f s", why, PATIENCE_S, extra={"partition": partition})
        self.refused += 1
        self._why[partition] = why

    def forget(self, partition: int) -> None:
        """Note that a partition's write was accepted, or is given up."""
        if self._why.pop(partition, None) is not None and not self._why:
            log.info("Redis accepts writes again")

    def problem(self) -> str | None:
        """Return why a write is refused; a `Probe`."""
        return next(iter(self._why.copy().values()), self.probed)


async def patiently(
    redis: Any,
    ask: Callable[[], Awaitable[T]],
    *,
    writes: Writes | None = None,
    partition: int = 0,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
) -> T:
    """Repeat a call, for `PATIENCE_S`, while a cluster fails over or Redis refuses writes.

    The client of a single server has retried for as long itself when it raises; a refused script has written nothing.
    `writes` counts refusals, after which `WritesRefusedError` is raised; without it they are raised at once.
    """
    since_s: float | None = None
    pause_s = FIRST_PAUSE_S
    try:
        while True:
            try:
                done = await ask()
            except (*AWAY, ResponseError) as error:
                why = None if writes is None else refusal_of(error)
                if why is None and not (isinstance(redis, redis_asyncio.RedisCluster) and isinstance(error, AWAY)):
                    raise
                away, now_s = error, clock()
                since_s = now_s if since_s is None else since_s
                if writes is not None and why is not None:
                    writes.refuse(partition, why)
                if now_s - since_s >= PATIENCE_S:
                    if why is None:
                        raise
                    raise _given_up(error, why) from error
            else:
                if writes is not None:
                    writes.forget(partition)
                return done
            await sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            if why is None:
                await find_slot(redis, away)
    except asyncio.CancelledError:
        if writes is not None:
            writes.forget(partition)
        raise


async def probe_writes(redis: Any, prefix: str, partitions: Iterable[int]) -> str | None:
    """Make writes that change nothing, one in each partition's slot; return why Redis refuses one, else None."""
    of_masters: dict[str, list[str]] = {}
    for partition in partitions:
        key = write_probe(prefix, partition)
        of_masters.setdefault(master_of(redis, key), []).append(key)
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            for keys in of_masters.values():
                replies = await pipelined(redis, keys[0], [("SETRANGE", key, 0, b"") for key in keys])
                if (problem := _problem_of(replies)) is not None:
                    return problem
    except (RedisError, RedisClusterException, TimeoutError) as error:
        return _problem_of([error])
    return None


def probe_writes_blocking(redis: Any, prefix: str, partitions: Iterable[int]) -> str | None:
    """Do the same with a blocking client; raises its errors."""
    pipeline = redis.pipeline(transaction=False)
    for partition in partitions:
        pipeline.setrange(write_probe(prefix, partition), 0, b"")
    return _problem_of(pipeline.execute(raise_on_error=False))


def _problem_of(replies: Iterable[object]) -> str | None:
    for reply in replies:
        if isinstance(reply, Exception):
            if (why := refusal_of(reply)) is not None:
                return why
            if not isinstance(reply, ResponseError):  # a permission error concerns the probe only
                return f"Redis does not answer ({type(reply).__name__})"
    return None


def _given_up(error: BaseException, why: str) -> WritesRefusedError:
    way_out = next((way for kind, way in _WAY_OUT.items() if isinstance(error, kind)), "its log says more")
    return WritesRefusedError(
        f"{why}, for {PATIENCE_S:.0f} s: {way_out}. Nothing is lost: after a restart it resumes from its checkpoint"
    )


def connect(settings: Settings, timeout_s: float = TIMEOUT_S, *, retries: int = _BLOCKING_RETRIES) -> Any:
    """Return a blocking client with raw replies, after a ping; raises `RedisUnreachableError`."""
    url = settings.redis_url
    options = _options(settings, timeout_s)
    try:
        if _CLUSTER in url:
            retry = Retry(_BACKOFF, _BLOCKING_CLUSTER_RETRIES)
            client: Any = redis.RedisCluster.from_url(url.replace(_CLUSTER, "://"), retry=retry, **options)
            client.nodes_manager.__class__ = _Nodes
        else:
            client = redis.Redis.from_url(url, retry=Retry(_BACKOFF, retries), **options)
        client.ping()
    except AuthenticationError as error:
        raise RedisUnreachableError(
            f"Redis at {settings.redis_address} refuses the connection ({error}); put user and password into REDIS_URL"
        ) from error
    except REDIS_ERRORS as error:
        raise RedisUnreachableError(
            f"no Redis answers at {settings.redis_address} ({error}); start one with `botify up` or set REDIS_URL"
        ) from error
    return client


def check_redis(settings: Settings) -> None:
    """Raise `RedisUnreachableError` unless Redis's address accepts connections."""
    url = urlsplit(settings.redis_url)
    host, port = url.hostname or "127.0.0.1", url.port or 6379
    if not accepts_connections(host, str(port)):
        raise RedisUnreachableError(f"no Redis listens at {host}:{port}: start one with `botify up` or set REDIS_URL")


def require_redis(settings: Settings) -> Settings:
    """Return the settings if Redis answers within seconds, or raise `RedisUnreachableError`; for commands."""
    check_redis(settings)
    connect(settings, REQUIRED_TIMEOUT_S, retries=0).close()
    return settings


def _options(settings: Settings, timeout_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if settings.redis_ssl_ca_location and settings.redis_url.startswith(_TLS):
        options["ssl_ca_certs"] = str(settings.redis_ssl_ca_location)
    return options
