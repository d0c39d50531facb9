"""A deployment with data on every page: listens, dead letters and a finished replay."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import httpx

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Listen
from botify.schemas.topics import Topics
from botify.services.experiments import COURSE
from botify.services.stack.ports import find_free
from botify.sim.loop import run_loop
from botify.sim.options import RunOptions
from botify.sim.world.config import WorldConfig
from botify.sim.world.generate import generate
from botify.sim.world.model import World
from botify.sim.world.store import save_world
from tests.commands import botify
from tests.support import BASE_MS, eventually, produce_raw, running

HOSTILE = b"\0\0\0\0\x63<img src=x onerror=window.hacked=true>"
"""A dead letter that would run a script in a page that does not escape it."""

WORLD = WorldConfig(tracks=2_000, artists=300, genres=12, users=1_500, dimensions=24, clusters=6)


@dataclass(frozen=True, slots=True)
class Scene:
    """The dashboard's address, and the data behind it."""

    url: str
    settings: Settings
    world: World


def chromium() -> str | None:
    """Return the browser: Debian's `chromium`, or what BOTIFY_CHROMIUM names; None where there is none."""
    return os.environ.get("BOTIFY_CHROMIUM") or shutil.which("chromium")


@contextmanager
def scene(settings: Settings, listens: int) -> Iterator[Scene]:
    """Simulate listeners, then serve the gateway with its dashboard inside the block."""
    settings = settings.with_(experiments=COURSE)
    world = World("dashboard", *generate(WORLD), {})
    save_world(settings.home, world)  # a person recommends to its listeners
    with ExitStack() as programs:
        for module in ("botify.streams.worker", "botify.streams.learner", "botify.services.recommender"):
            programs.enter_context(running(settings, module))
        with gateway(settings) as url:
            run_loop(settings, world, RunOptions(listens=listens, in_flight=300, run_id="scene"))
            _spoil(settings)
            botify(settings, "replay", "run")
            yield Scene(url, settings, world)


@contextmanager
def gateway(settings: Settings) -> Iterator[str]:
    """Run a gateway with its dashboard, and yield the dashboard's address."""
    port = find_free()
    with running(settings, "botify.services.gateway", {"BOTIFY_GATEWAY_PORT": str(port)}):
        url = f"http://127.0.0.1:{port}/ui"
        eventually(lambda: answers(url), what="the gateway serves its dashboard")
        yield url


def answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, follow_redirects=True).is_success
    except httpx.TransportError:
        return False


def _spoil(settings: Settings) -> None:
    impossible = Codec().encode(Listen("bad", 42, 7, 7.0, BASE_MS, "bad", 0, False, None, {}, None, None))
    produce_raw(settings, Topics.of(settings).listens.name, [(b"1", b"hello"), (b"2", HOSTILE), (b"42", impossible)])
