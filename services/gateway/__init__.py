"""The REST gateway, and its options, read once from the environment, like `botify.core.settings`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal, NamedTuple, Self, get_args

from pydantic import AfterValidator

from botify.core.settings import read_environment, whole

RETRY_AFTER_S = 1  # what `Retry-After` says where the wait is unknown
NO_CATALOGUE = "the catalogue is empty; `botify data publish NAME` or `botify world make --publish` fills it"
"""The only problem in `/readyz` of a gateway that waits for nothing but tracks."""


class Bounds(NamedTuple):
    """What one gateway accepts; constants but for `connections`, which a low `ulimit -n` reduces."""

    in_flight: int = 512  # requests in progress at the same time; more get 503
    body_bytes: int = 16_384  # of a body; a larger one gets 413
    batch_bytes: int = 262_144  # of the body of `/v1/events`
    body_s: int = 5  # for a body to arrive; then 408
    bodies: int = 256  # that are arriving; for one more, the oldest gets 503
    bodies_per_client: int = 64  # the same, from one address
    header_bytes: int = 16_384  # of a request without its body; a larger one gets 431
    header_s: int = 5  # for headers to arrive, or for a new connection to send; then 408
    keep_alive_s: int = 5  # until the next request of a connection
    connections: int = 4_096  # that are open; for one more, the idlest is closed


TokenScope = Literal["serve", "write", "admin"]
"""What a token allows: to ask for recommendations; to tell what listeners did; to change items and erase listeners."""
ALL_SCOPES: frozenset[TokenScope] = frozenset(get_args(TokenScope))


def scopes_of_tokens(text: str) -> dict[bytes, frozenset[TokenScope]]:
    """Return what each token allows: one token, which allows everything, or words `scope:token`, also `all:token`.

    Examples
    --------
    >>> sorted(scopes_of_tokens("serve:app write:app admin:old admin:new")[b"app"])
    ['serve', 'write']
    >>> scopes_of_tokens("s3cret")[b"s3cret"] == scopes_of_tokens("all:s3cret")[b"s3cret"] == ALL_SCOPES
    True
    """
    found: dict[bytes, frozenset[TokenScope]] = {}
    words = text.split()
    for word in words:
        scope, _, token = word.partition(":")
        allowed = ALL_SCOPES if scope == "all" else ALL_SCOPES & {scope}
        if not allowed and len(words) == 1:
            allowed, token = ALL_SCOPES, word
        if not (allowed and token and token.isascii() and token.isprintable()):
            raise ValueError("a token is printable ASCII; several are written as serve:…, write:…, admin:… or all:…")
        found[token.encode()] = found.get(token.encode(), frozenset()) | allowed
    if not found:
        raise ValueError("there is no token")
    return found


def _check_tokens(text: str) -> str:
    scopes_of_tokens(text)
    return text


@dataclass(frozen=True, slots=True)
class GatewayOptions:
    """Where a gateway listens, and what it allows; a field's variable is `BOTIFY_GATEWAY_` and its name in capitals."""

    host: str = "127.0.0.1"  # the address to bind; this one serves this machine only
    port: Annotated[int, whole(0, 65_535)] = 8000  # 0 takes any free one
    deadline_ms: Annotated[int, whole(10, 60_000)] = 1_000  # for the recommender; then a popular track is served
    # requests with one token, or from one address without; more get 429. A core serves about 2,000 `/next` a second
    rate_per_s: Annotated[int, whole(1, 1_000_000)] = 2_500
    # of one address; None is half of all. Where it is given, addresses are of proxies, and may send all bodies
    connections_per_client: Annotated[int | None, whole(1, 1_000_000)] = None
    # what clients must send as a bearer token, see `scopes_of_tokens`; None demands none
    token: Annotated[str, AfterValidator(_check_tokens)] | None = field(default=None, repr=False)
    dashboard: Literal["on", "off"] = "on"  # at `/ui`; one gateway of several is enough

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """Read the options; raises `SettingsError` if a variable has an invalid value."""
        variables = os.environ if environ is None else environ
        return read_environment(cls, lambda name: f"BOTIFY_GATEWAY_{name.upper()}", variables)
