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

    Examples
    --------
    >>> GatewayOptions.from_env({"BOTIFY_GATEWAY_PORT": "8080"}).port
    8080
    >>> GatewayOptions.from_env({"BOTIFY_GATEWAY_PORT": "http"})
    Traceback (most recent call last):
    core.errors.SettingsError: BOTIFY_GATEWAY_PORT: 'http' is not a whole number from 0 to 65535
    """

    host: str = "127.0.0.1"  # the address to bind; this one serves this machine only
    port: Annotated[int, whole(0, 65_535)] = 8000  # 0 takes any free one
    deadline_ms: Annotated[int, whole(10, 60_000)] = 1_000  # for the recommender; then a popular track is served
    in_flight: Annotated[int, whole(1, 100_000)] = 512  # requests in progress at the same time; more get 503
    body_bytes: Annotated[int, whole(64, 16 * 2**20)] = 16_384  # of a body; a larger one gets 413
    batch_bytes: Annotated[int, whole(64, 16 * 2**20)] = 262_144  # of the body of `/v1/events`
    rate_per_s: Annotated[int | None, whole(1, 1_000_000)] = None  # requests from one address; more get 429
    body_s: Annotated[int, whole(1, 3_600)] = 5  # for a body to arrive; then 408
    bodies: Annotated[int, whole(1, 100_000)] = 256  # that are arriving; for one more, the oldest gets 503
    bodies_per_client: Annotated[int, whole(1, 100_000)] = 64  # the same for one address
    header_bytes: Annotated[int, whole(1_024, 2**20)] = 16_384  # of a request without its body; a larger one gets 431
    header_s: Annotated[int, whole(1, 3_600)] = 5  # for headers to arrive, or for a new connection to send; then 408
    keep_alive_s: Annotated[int, whole(1, 3_600)] = 5  # until the next request of a connection
    connections: Annotated[int, whole(2, 1_000_000)] = 4_096  # that are open; for one more, the idlest is closed
    connections_per_client: Annotated[int | None, whole(1, 1_000_000)] = None  # of one address; None is half of all
    # what clients must send as a bearer token; None demands none
    token: Annotated[str, AfterValidator(_check_token)] | None = field(default=None, repr=False)
    dashboard: Annotated[bool, BeforeValidator(_is_on)] = True  # at `/ui`; one gateway of several is enough

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the options; raises `SettingsError` if a variable has an invalid value."""
        variables = os.environ if environ is None else environ
        return read_environment(cls, lambda name: f"BOTIFY_GATEWAY_{name.upper()}", variables)
