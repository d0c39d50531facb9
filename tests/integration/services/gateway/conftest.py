"""Gateways as processes, on ports of their own."""

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import httpx
import pytest

from botify.core.settings import Settings
from tests.support import eventually, running

TRACKS = 100

StartGateway = Callable[..., httpx.Client]


def start(
    programs: ExitStack,
    settings: Settings,
    name: str = "gateway",
    *,
    descriptors: int | None = None,
    until_ready: bool = True,
    **env: object,
) -> httpx.Client:
    """Start a gateway, and return a client of it; variables are named without `BOTIFY_GATEWAY_`."""
    variables = {f"BOTIFY_GATEWAY_{key}": str(value) for key, value in {"DASHBOARD": "off", **env}.items()}
    log = f"{name}.log"
    process = programs.enter_context(
        running(settings, "botify.services.gateway", {**variables, "BOTIFY_GATEWAY_PORT": "0"}, log, descriptors)
    )

    def url() -> str | None:
        assert process.poll() is None, (settings.home / log).read_text()
        found = re.search(r"serving on (http://\S+)", (settings.home / log).read_text())
        return found and found[1]

    client = programs.enter_context(httpx.Client(base_url=eventually(url), timeout=10))
    if token := env.get("TOKEN"):
        client.headers["Authorization"] = f"Bearer {token}"
    eventually(lambda: _answers(client), what="a gateway that answers")
    if until_ready:
        eventually(lambda: ready(client), what=lambda: client.get("/readyz").text)
    return client


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


def ready(client: httpx.Client) -> bool:
    return client.get("/readyz").status_code == 200


@pytest.fixture
def gateway(settings: Settings) -> Iterator[StartGateway]:
    with ExitStack() as programs:
        yield partial(start, programs, settings)


def log_of(settings: Settings, name: str = "gateway") -> str:
    return Path(settings.home / f"{name}.log").read_text()
