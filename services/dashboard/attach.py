"""Puts the dashboard on an application."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from nicegui import app as nicegui_app
from nicegui import ui
from starlette.applications import Starlette

from core.settings import Settings
from schemas.registry import codec_of
from services.dashboard.broadcast import Broadcast
from services.dashboard.collector import Collector
from services.dashboard.listening import GatewayPlayer
from services.dashboard.listens import ListenerReader
from services.dashboard.pages.listen import add_listen_page
from services.dashboard.pages.listener import add_listener_page
from services.dashboard.pages.live import MOUNT, add_live_pages

STATIC = Path(__file__).parent / "static"


def attach(app: Starlette, settings: Settings) -> None:
    """Serve the dashboard at `/ui` of an application; once a process, because NiceGUI has one for all.

    It starts and stops with the application. While Kafka or Redis is away, the pages say so.

    Parameters
    ----------
    app : Starlette
        With Botify's `/next/<user>` and `/last/<user>`, which serve whoever is a listener on the dashboard.
    settings : Settings
    """
    collector = Collector(settings)
    broadcast = Broadcast(lambda: collector.snapshot)
    player = GatewayPlayer(app, settings)
    listeners = ListenerReader(settings, codec_of(settings))
    add_live_pages(broadcast, lambda: collector.snapshot)
    add_listener_page(listeners.read, lambda: collector.catalogue)
    add_listen_page(player, lambda: collector.catalogue, lambda: collector.snapshot.rankings)
    nicegui_app.add_static_files("/static", STATIC)
    running = _Running(collector, broadcast, player)
    nicegui_app.on_startup(running.start)
    nicegui_app.on_shutdown(running.stop)
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


class _Running:
    """What lives as long as the application does."""

    def __init__(self, collector: Collector, broadcast: Broadcast, player: GatewayPlayer) -> None:
        self._collector = collector
        self._broadcast = broadcast
        self._player = player
        self._sending: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._collector.start()
        self._sending = asyncio.create_task(self._broadcast.run())

    async def stop(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sending
        await self._player.close()
        await asyncio.to_thread(self._collector.stop)
