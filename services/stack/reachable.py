"""Whether anything listens at an address: asked before a client would try for half a minute."""

from __future__ import annotations

import socket
import time
from urllib.parse import urlsplit

from schemas.settings import Settings
from services.stack.errors import StackError
from services.stack.ports import HOST

CONNECT_TIMEOUT_S = 2.0
_POLL_S = 0.1


def check_kafka(settings: Settings) -> None:
    """Make sure that one of Kafka's addresses takes connections.

    Raises
    ------
    StackError
        None does.
    """
    addresses = [address.strip().rpartition(":") for address in settings.kafka_bootstrap_servers.split(",")]
    if not any(_takes_connections(host, port) for host, _, port in addresses):
        raise StackError(
            f"no Kafka listens at {settings.kafka_bootstrap_servers}: start one with `botify up` or set "
            "KAFKA_BOOTSTRAP_SERVERS"
        )


def check_redis(settings: Settings) -> None:
    """Make sure that Redis's address takes connections.

    Raises
    ------
    StackError
        It does not.
    """
    url = urlsplit(settings.redis_url)
    host, port = url.hostname or "127.0.0.1", url.port or 6379
    if not _takes_connections(host, str(port)):
        raise StackError(f"no Redis listens at {host}:{port}: start one with `botify up` or set REDIS_URL")


def wait_for_port(name: str, port: int, deadline_s: float) -> None:
    """Wait until one of our processes listens.

    Parameters
    ----------
    name : str
        What the process is called.
    port : int
        On the loopback interface.

    Raises
    ------
    StackError
        It does not, in that time.
    """
    give_up = time.monotonic() + deadline_s
    while not _takes_connections(HOST, str(port)):
        if time.monotonic() > give_up:
            raise StackError(
                f"{name} does not listen at port {port} after {deadline_s:.0f} s: `botify status` says where its log is"
            )
        time.sleep(_POLL_S)


def _takes_connections(host: str, port: str) -> bool:
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT_S).close()
    except (OSError, ValueError):
        return False
    return True
