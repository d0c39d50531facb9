"""Connections to Redis, standalone or Cluster.

A node of a cluster may hang without closing its connections. Only a command that times out tells, and only who then
asks the other nodes finds the replica that took over. redis-py does so after single commands; after a pipeline whose
errors are returned, after a transaction that timed out and after a call that its caller cancelled it does not, and goes
on asking the node that hangs. So whoever makes such calls bounds them by `timeout_s`, below the bound of its own
callers, and calls `find_masters` after a failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
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
    ClusterDownError,
    RedisClusterException,
    RedisError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from core.errors import BotifyError
from core.kafka.admin import accepts_connections
from core.settings import Settings

T = TypeVar("T")

# Every write is an `apply`, which may be repeated, so all commands are retried: about 20 s, then the error is raised.
# On a cluster that is up to `patiently`, because redis-py goes on asking the same node, or asks again without a pause.
_BACKOFF = ExponentialBackoff(cap=1.0, base=0.02)
_RETRIES = 24
_BLOCKING_RETRIES = 3
_CLUSTER_RETRIES = 0
_BLOCKING_CLUSTER_RETRIES = 1
PATIENCE_S = 20.0
_PAUSE_S = 0.25
TIMEOUT_S = 10.0
"""How long Redis may take for an answer: tools copy whole collections in one command."""
REQUIRED_TIMEOUT_S = 5.0
"""… where somebody waits to be told that Redis is away."""
FOLDING_TIMEOUT_S = 5.0
"""… where state is folded: an apply takes milliseconds, a slow disk a second or two."""
SERVING_TIMEOUT_S = 0.75
"""… where a listener waits: twice that, for a new connection and for the answer, is less than anybody's deadline."""
_CLUSTER = "+cluster://"
_TLS = "rediss"


class _PackInC:
    """Commands packed by hiredis: redis-py does so for blocking connections only, and an apply has 10,000 arguments."""

    def pack_command(self, *args: Any) -> list[bytes]:
        return [hiredis.pack_command((*args[0].split(), *args[1:]))]  # some names are two words


class _Connection(_PackInC, redis_asyncio.Connection):
    pass


class _TLSConnection(_PackInC, redis_asyncio.SSLConnection):
    pass


REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""What a call to Redis may raise; errors of the cluster client itself are no `RedisError`."""

AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    ClusterDownError,
    AskError,  # and MovedError: the slot is elsewhere
    RedisClusterException,
    OSError,
)
"""Those of them after which another node, or the same one later, may answer."""


class RedisUnreachableError(BotifyError):
    """Redis does not answer."""


def connect_async(settings: Settings, timeout_s: float = TIMEOUT_S) -> Any:
    """Return an asyncio client with raw replies; connections are made when first used.

    Parameters
    ----------
    settings : Settings
    timeout_s : float
        How long a connection, and an answer, may take.
    """
    url = settings.redis_url
    options = _options(settings, timeout_s)
    if _CLUSTER in url:
        retry = AsyncRetry(_BACKOFF, _CLUSTER_RETRIES)
        return redis_asyncio.RedisCluster.from_url(url.replace(_CLUSTER, "://"), retry=retry, **options)
    connection = _TLSConnection if url.startswith(_TLS) else _Connection
    pool = redis_asyncio.ConnectionPool.from_url(url, retry=AsyncRetry(_BACKOFF, _RETRIES), **options)
    pool.connection_class = connection
    return redis_asyncio.Redis.from_pool(pool)


def master_of(redis: Any, key: str) -> str:
    """Return the name of the node that a cluster's asyncio client takes a key to; empty where that is one for all."""
    if not isinstance(redis, redis_asyncio.RedisCluster):
        return ""
    try:
        node = redis.get_node_from_key(key)
    except SlotNotCoveredError:  # before the first command
        return ""
    return "" if node is None else str(node.name)


async def find_masters(redis: Any, failed: str = "") -> None:
    """Ask a cluster which nodes have which slots now, and drop connections to those that have none.

    Nothing happens where Redis is no cluster, or no node answers: the next call fails as the last one did.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    failed : str
        Name of a node that is asked last.
    """
    if isinstance(redis, redis_asyncio.RedisCluster):
        with contextlib.suppress(*REDIS_ERRORS):
            await redis.nodes_manager.initialize(last_failed_node_name=failed or None)


async def patiently(redis: Any, ask: Callable[[], Awaitable[T]]) -> T:
    """Call something that may be repeated until a cluster's failover is over, for `PATIENCE_S`.

    A client of a single server has had as much patience itself when it raises.

    Parameters
    ----------
    redis : redis.asyncio.Redis or RedisCluster
    ask : callable
        Makes the call.
    """
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            return await ask()
        except AWAY:
            if not isinstance(redis, redis_asyncio.RedisCluster) or time.monotonic() > give_up_s:
                raise
        await asyncio.sleep(_PAUSE_S)
        await find_masters(redis)


def connect(settings: Settings, timeout_s: float = TIMEOUT_S, *, retries: int = _BLOCKING_RETRIES) -> Any:
    """Return a blocking client with raw replies, after a ping; see `connect_async`.

    Raises
    ------
    RedisUnreachableError
        It does not answer, or not to us.
    """
    url = settings.redis_url
    options = _options(settings, timeout_s)
    try:
        if _CLUSTER in url:
            retry = Retry(_BACKOFF, _BLOCKING_CLUSTER_RETRIES)
            client: Any = redis.RedisCluster.from_url(url.replace(_CLUSTER, "://"), retry=retry, **options)
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
    """Make sure that Redis's address takes connections.

    Raises
    ------
    RedisUnreachableError
        It does not.
    """
    url = urlsplit(settings.redis_url)
    host, port = url.hostname or "127.0.0.1", url.port or 6379
    if not accepts_connections(host, str(port)):
        raise RedisUnreachableError(f"no Redis listens at {host}:{port}: start one with `botify up` or set REDIS_URL")


def require_redis(settings: Settings) -> Settings:
    """Return the settings if Redis answers within seconds: for commands, where somebody waits for the message.

    Raises
    ------
    RedisUnreachableError
        It does not.
    """
    check_redis(settings)
    connect(settings, REQUIRED_TIMEOUT_S, retries=0).close()
    return settings


def _options(settings: Settings, timeout_s: float) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if settings.redis_ssl_ca_location and settings.redis_url.startswith(_TLS):
        options["ssl_ca_certs"] = str(settings.redis_ssl_ca_location)
    return options
