"""The ports of the stack: free ones on the first start, the same ones on later starts."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import psutil

from botify.services.errors import PortTakenError, StackError
from botify.services.stack.record import write_json

HOST = "127.0.0.1"
PORTS_FILE = "ports.json"
# Below the range of ports for outgoing connections of Linux and macOS, so a remembered port stays free while the
# stack is down.
CANDIDATES = range(20_000, 32_768)
ATTEMPTS = 100


def is_free(port: int) -> bool:
    """Return whether a server could listen on the port of the loopback interface now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as Kafka and Valkey do: connections in TIME_WAIT do not occupy the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def find_free(avoid: frozenset[int] = frozenset()) -> int:
    """Return a free port; raises `StackError` if none of 100 tried ports is free."""
    for port in random.sample(CANDIDATES, ATTEMPTS):
        if port not in avoid and is_free(port):
            return port
    raise StackError(f"none of {ATTEMPTS} ports tried between {CANDIDATES.start} and {CANDIDATES.stop - 1} is free")


def check_free(name: str, port: int) -> None:
    """Raise `PortTakenError` if a port is in use; the message names the process that has it, if it is known."""
    if is_free(port):
        return
    owner = _owner(port)
    raise PortTakenError(
        f"port {port} for {name} is taken by {owner or 'another process'}: stop that process, or choose other ports "
        f"with `botify up --kafka-port … --redis-port … --gateway-port …` (0 finds a free one)"
    )


def choose(home: Path, wanted: Mapping[str, int | None], preferred: Mapping[str, int] | None = None) -> dict[str, int]:
    """Decide on a port for each name, and remember it in the data directory.

    A wanted port of None keeps that of the last start, or at first the preferred one if it is free; 0 picks a free one.
    """
    remembered = remembered_ports(home)
    chosen: dict[str, int] = {}
    for name, port in wanted.items():
        first = (preferred or {}).get(name, 0)
        kept = remembered.get(name) or (first if first and is_free(first) else 0) if port is None else port
        chosen[name] = kept or find_free(frozenset(chosen.values()))
    if not chosen.items() <= remembered.items():
        write_json(home / PORTS_FILE, remembered | chosen)
    return chosen


def remembered_ports(home: Path) -> dict[str, int]:
    """Return the port of each name that was chosen in a data directory."""
    path = home / PORTS_FILE
    try:
        return {str(name): int(port) for name, port in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise StackError(
            f"{path} is not a table of ports ({error}): remove it, and `botify up` picks free ports"
        ) from error


def _owner(port: int) -> str | None:
    """Return the process that listens on a port, None if this user may not see it."""
    with suppress(psutil.AccessDenied):
        for found in psutil.net_connections(kind="tcp"):
            if found.pid and found.laddr and found.laddr.port == port and found.status == psutil.CONN_LISTEN:
                try:
                    return f"{psutil.Process(found.pid).name()} (pid {found.pid})"
                except psutil.Error:
                    return f"pid {found.pid}"
    return None
