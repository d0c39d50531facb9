"""The live dashboard, mounted at `/ui` of the gateway; one of its pages makes a person a listener."""

from __future__ import annotations

import asyncio
from pathlib import Path

from nicegui import app as nicegui_app
from nicegui import ui
from starlette.applications import Starlette
from starlette.responses import RedirectResponse
from starlette.routing import Route

from botify.core import process
from botify.core.settings import Settings
from botify.schemas.external_ids import UserIds
from botify.schemas.registry import codec_of
from botify.services.dashboard.collector import Collector
from botify.services.dashboard.listening import add_listen_page
from botify.services.dashboard.pages import Broadcast, add_listener_page, add_live_pages, add_missing_page, add_why_page
from botify.services.dashboard.player import Player
from botify.services.dashboard.readers import ListenerReader
from botify.services.dashboard.recommending import add_recommend_page
from botify.services.dashboard.views import MOUNT

STATIC = Path(__file__).parent / "static"


def attach(app: Starlette, settings: Settings, users: UserIds) -> None:
    """Serve the dashboard at `/ui` of an application; once per process, because NiceGUI has one global application.

    It starts and stops with the application, whose state has `responses`, the number of responses by route and status,
    and `token`, which allows all calls.
    """
    collector = Collector(settings, lambda: dict(app.state.responses))
    broadcast = Broadcast(lambda: collector.snapshot)
    player = Player(app, settings, users)
    listeners = ListenerReader(settings, codec_of(settings), users)
    add_missing_page()
    add_live_pages(broadcast, lambda: collector.snapshot)
    add_listener_page(listeners.read, lambda: collector.catalogue, are_external=users.are_external)
    add_why_page(player.why, are_external=users.are_external)
    add_listen_page(player, collector, users)
    add_recommend_page(settings.home, player, collector, users)
    nicegui_app.add_static_files("/static", STATIC)
    sending: list[asyncio.Task[None]] = []

    def start() -> None:
        collector.start()
        sending.append(asyncio.create_task(broadcast.run()))

    async def stop() -> None:
        await process.stop(*sending)
        await player.close()
        await asyncio.to_thread(collector.stop)

    nicegui_app.router.redirect_slashes = False  # as the gateway's
    app.router.routes.append(Route(MOUNT, RedirectResponse(f"{MOUNT}/"), methods=["GET"]))
    nicegui_app.on_startup(start)
    nicegui_app.on_shutdown(stop)
    ui.run_with(
        app,  # type: ignore[arg-type] # of FastAPI it uses only what Starlette has
        mount_path=MOUNT,
        title="Botify",
        favicon=STATIC / "favicon.svg",
        dark=None,
        tailwind=False,
        binding_refresh_interval=None,
        show_welcome_message=False,
    )
