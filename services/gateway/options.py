"""The gateway's options: read once from the environment, like `core.settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator

from core.environment import read_environment, whole


def _check_token(token: str) -> str:
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise ValueError("a token has printable ASCII characters and no spaces")
    return token


def _is_on(raw: Any) -> bool:
    if raw not in ("on", "off"):
        raise ValueError(f"{raw!r} is neither on nor off")
    return bool(raw == "on")


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
    port: Annotated[int, whole(0, 65_535)] = 8000
    deadline_ms: Annotated[int, whole(10, 60_000)] = 1_000
    in_flight: Annotated[int, whole(1, 100_000)] = 512
    body_bytes: Annotated[int, whole(64, 16 * 2**20)] = 16_384
    rate_per_s: Annotated[int | None, whole(1, 1_000_000)] = None
    body_s: Annotated[int, whole(1, 3_600)] = 5
    bodies: Annotated[int, whole(1, 100_000)] = 256
    bodies_per_client: Annotated[int, whole(1, 100_000)] = 64
    header_bytes: Annotated[int, whole(1_024, 2**20)] = 16_384
    header_s: Annotated[int, whole(1, 3_600)] = 5
    keep_alive_s: Annotated[int, whole(1, 3_600)] = 5
    connections: Annotated[int, whole(2, 1_000_000)] = 4_096
    connections_per_client: Annotated[int | None, whole(1, 1_000_000)] = None
    token: Annotated[str, AfterValidator(_check_token)] | None = field(default=None, repr=False)
    dashboard: Annotated[bool, BeforeValidator(_is_on)] = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the options.

        Raises
        ------
        SettingsError
            A variable has a value that cannot be used.
        """
        variables = os.environ if environ is None else environ
        return read_environment(cls, lambda name: f"BOTIFY_GATEWAY_{name.upper()}", variables)
