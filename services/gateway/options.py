"""The gateway's options, read once from the environment, like `core.settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator

from core.environment import read_environment, whole

RETRY_AFTER_S = 1
"""What `Retry-After` says where the wait is unknown."""


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
    """Where a gateway listens, and its bounds. The variable of a field is `BOTIFY_GATEWAY_` and its name in capitals.

    Attributes
    ----------
    host : str
        Address to bind; the default serves this machine only.
    port : int
        0 takes any free one.
    deadline_ms : int
        How long a listener waits for the recommender; then a popular track is served.
    in_flight : int
        Requests in progress at the same time; more get 503.
    body_bytes : int
        Size of a body; a larger one gets 413.
    rate_per_s : int | None
        Requests per second from one client address; more get 429.
    body_s : int
        Seconds that a body may take to arrive; then 408.
    bodies, bodies_per_client : int
        Bodies that are arriving at the same time, of all clients and of one address; with one more, the oldest gets
        503.
    header_bytes : int
        Size of a request without its body; a larger one gets 431.
    header_s : int
        Seconds that headers may take to arrive, or a new connection may be silent; then 408.
    keep_alive_s : int
        Seconds that a connection is kept open for the next request.
    connections : int
        Open connections; for one more, the idlest is closed.
    connections_per_client : int | None
        Of one address; None is half of all.
    token : str | None
        Bearer token that clients must send; None demands none.
    dashboard : bool
        Whether the dashboard is served at `/ui` (`on` or `off`); one gateway of several is enough.

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
