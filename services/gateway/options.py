"""What can be set about a gateway: read once from the environment, like `core.settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from core.errors import SettingsError

_COUNTS = {
    "port": ("BOTIFY_GATEWAY_PORT", 0, 65_535),
    "deadline_ms": ("BOTIFY_GATEWAY_DEADLINE_MS", 10, 60_000),
    "in_flight": ("BOTIFY_GATEWAY_IN_FLIGHT", 1, 100_000),
    "body_bytes": ("BOTIFY_GATEWAY_BODY_BYTES", 64, 16 * 2**20),
    "rate_per_s": ("BOTIFY_GATEWAY_RATE_PER_S", 1, 1_000_000),
    "body_s": ("BOTIFY_GATEWAY_BODY_S", 1, 3_600),
    "bodies": ("BOTIFY_GATEWAY_BODIES", 1, 100_000),
    "bodies_per_client": ("BOTIFY_GATEWAY_BODIES_PER_CLIENT", 1, 100_000),
    "header_bytes": ("BOTIFY_GATEWAY_HEADER_BYTES", 1_024, 2**20),
    "header_s": ("BOTIFY_GATEWAY_HEADER_S", 1, 3_600),
    "keep_alive_s": ("BOTIFY_GATEWAY_KEEP_ALIVE_S", 1, 3_600),
    "connections": ("BOTIFY_GATEWAY_CONNECTIONS", 2, 1_000_000),
    "connections_per_client": ("BOTIFY_GATEWAY_CONNECTIONS_PER_CLIENT", 1, 1_000_000),
}


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where a gateway listens, and what it bounds.

    Attributes
    ----------
    host : str
        Address to bind; other machines are served only where this says so (`BOTIFY_GATEWAY_HOST`).
    port : int
        0 takes any free one (`BOTIFY_GATEWAY_PORT`).
    deadline_ms : int
        How long a listener waits for the recommender; then a popular track serves (`BOTIFY_GATEWAY_DEADLINE_MS`).
    in_flight : int
        Requests that are worked on at the same time; more are sent away with 503 (`BOTIFY_GATEWAY_IN_FLIGHT`).
    body_bytes : int
        Longest body; a longer one is refused with 413 (`BOTIFY_GATEWAY_BODY_BYTES`).
    rate_per_s : int | None
        Requests a second of one client address; more are sent away with 429 (`BOTIFY_GATEWAY_RATE_PER_S`).
    body_s : int
        How long a body may take to arrive, in seconds; then it is refused with 408 (`BOTIFY_GATEWAY_BODY_S`).
    bodies, bodies_per_client : int
        Bodies of all clients, and of one address, that may be arriving at the same time; one more costs the oldest its
        place, with 503 (`BOTIFY_GATEWAY_BODIES`, `BOTIFY_GATEWAY_BODIES_PER_CLIENT`).
    header_bytes : int
        All that a request may have besides its body; more is refused with 431 (`BOTIFY_GATEWAY_HEADER_BYTES`).
    header_s : int
        How long headers may take to arrive, or a new connection may be silent, in seconds; then it is closed with 408
        (`BOTIFY_GATEWAY_HEADER_S`).
    keep_alive_s : int
        How long a connection is kept open for a next request, in seconds (`BOTIFY_GATEWAY_KEEP_ALIVE_S`).
    connections : int
        The most there may be; one more costs the idlest its place (`BOTIFY_GATEWAY_CONNECTIONS`).
    connections_per_client : int | None
        Of one address; half of all where it is None (`BOTIFY_GATEWAY_CONNECTIONS_PER_CLIENT`).
    token : str | None
        What a client must bring as a bearer token; nobody needs one where it is None (`BOTIFY_GATEWAY_TOKEN`).
    dashboard : bool
        Whether the dashboard is served at `/ui`; one gateway of several is enough (`BOTIFY_GATEWAY_DASHBOARD`, `on` or
        `off`).

    Examples
    --------
    >>> GatewayOptions.from_env({"BOTIFY_GATEWAY_PORT": "8080"}).port
    8080
    >>> GatewayOptions.from_env({"BOTIFY_GATEWAY_PORT": "http"})
    Traceback (most recent call last):
    core.errors.SettingsError: BOTIFY_GATEWAY_PORT: 'http' is not a whole number from 0 to 65535
    """

    host: str = "127.0.0.1"
    port: int = 8000
    deadline_ms: int = 1_000
    in_flight: int = 512
    body_bytes: int = 16_384
    rate_per_s: int | None = None
    body_s: int = 5
    bodies: int = 256
    bodies_per_client: int = 64
    header_bytes: int = 16_384
    header_s: int = 5
    keep_alive_s: int = 5
    connections: int = 4_096
    connections_per_client: int | None = None
    token: str | None = field(default=None, repr=False)
    dashboard: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the options.

        Raises
        ------
        SettingsError
            A variable has a value that cannot be used.
        """
        env = os.environ if environ is None else environ
        values: dict[str, Any] = {
            name: _whole(variable, raw, lowest, highest)
            for name, (variable, lowest, highest) in _COUNTS.items()
            if (raw := env.get(variable))
        }
        if host := env.get("BOTIFY_GATEWAY_HOST"):
            values["host"] = host
        if token := env.get("BOTIFY_GATEWAY_TOKEN"):
            if not (token.isascii() and token.isprintable() and " " not in token):
                raise SettingsError("BOTIFY_GATEWAY_TOKEN: a token has printable ASCII characters and no spaces")
            values["token"] = token
        if dashboard := env.get("BOTIFY_GATEWAY_DASHBOARD"):
            if dashboard not in ("on", "off"):
                raise SettingsError(f"BOTIFY_GATEWAY_DASHBOARD: {dashboard!r} is neither on nor off")
            values["dashboard"] = dashboard == "on"
        return cls(**values)


def _whole(variable: str, raw: str, lowest: int, highest: int) -> int:
    if not (raw.isascii() and raw.isdecimal() and lowest <= int(raw) <= highest):
        raise SettingsError(f"{variable}: {raw!r} is not a whole number from {lowest} to {highest}")
    return int(raw)
