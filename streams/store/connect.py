"""Connections to Redis, standalone or Cluster."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import hiredis
import redis
import redis.asyncio as redis_asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import AuthenticationError, RedisClusterException, RedisError
from redis.retry import Retry

from schemas.errors import BotifyError
from schemas.reachable import takes_connections
from schemas.settings import Settings

# Every write is an `apply`, which may be repeated, so all commands are retried: about 20 s, then the error is raised.
_BACKOFF = ExponentialBackoff(cap=1.0, base=0.02)
_RETRIES = 24
_TIMEOUT_S = 10.0
REQUIRED_TIMEOUT_S = 5.0
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


class RedisUnreachableError(BotifyError):
    """Redis does not answer."""


def connect_async(settings: Settings) -> Any:
    """Return an asyncio client with raw replies; connections are made when first used."""
    url = settings.redis_url
    options = {"retry": AsyncRetry(_BACKOFF, _RETRIES), **_options(settings)}
    if _CLUSTER in url:
        return redis_asyncio.RedisCluster.from_url(url.replace(_CLUSTER, "://"), **options)
    connection = _TLSConnection if url.startswith(_TLS) else _Connection
    pool = redis_asyncio.ConnectionPool.from_url(url, **options)
    pool.connection_class = connection
    return redis_asyncio.Redis.from_pool(pool)


def connect(settings: Settings, *, retries: int = 3, timeout_s: float = _TIMEOUT_S) -> Any:
    """Return a blocking client with raw replies, after a ping.

    Raises
    ------
    RedisUnreachableError
        It does not answer, or not to us.
    """
    url = settings.redis_url
    options = {"retry": Retry(_BACKOFF, retries), **_options(settings, timeout_s)}
    try:
        if _CLUSTER in url:
            client: Any = redis.RedisCluster.from_url(url.replace(_CLUSTER, "://"), **options)
        else:
            client = redis.Redis.from_url(url, **options)
        client.ping()
    except AuthenticationError as error:
        raise RedisUnreachableError(
            f"Redis at {settings.redis_address} refuses us ({error}); put user and password into REDIS_URL"
        ) from error
    except (RedisError, RedisClusterException) as error:
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
    if not takes_connections(host, str(port)):
        raise RedisUnreachableError(f"no Redis listens at {host}:{port}: start one with `botify up` or set REDIS_URL")


def require_redis(settings: Settings) -> Settings:
    """Return the settings if Redis answers within seconds: for commands, where somebody waits for the message.

    Raises
    ------
    RedisUnreachableError
        It does not.
    """
    check_redis(settings)
    connect(settings, retries=0, timeout_s=REQUIRED_TIMEOUT_S).close()
    return settings


def _options(settings: Settings, timeout_s: float = _TIMEOUT_S) -> dict[str, Any]:
    options: dict[str, Any] = {"socket_timeout": timeout_s, "socket_connect_timeout": timeout_s}
    if settings.redis_ssl_ca_location and settings.redis_url.startswith(_TLS):
        options["ssl_ca_certs"] = str(settings.redis_ssl_ca_location)
    return options
