"""The service behind the gateway, from its start on, through the times when Kafka or Redis are away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

from schemas.errors import BotifyError
from services.gateway.background import in_background, stop
from services.gateway.errors import UnavailableError
from services.gateway.service import GatewayService
from streams.store.connect import REDIS_ERRORS

log = logging.getLogger(__name__)

CONNECT_AGAIN_S = 1.0


class Connected(Protocol):
    """A service that runs."""

    service: GatewayService

    def problems(self) -> list[str]:
        """Return what keeps it from serving listeners."""


Connect = Callable[[AsyncExitStack], Awaitable[Connected]]
"""Starts what the service needs; what it pushes on the stack is stopped at the end. Raises `BotifyError`."""


class Backend:
    """Connects in the background, again and again until it succeeds, so that the gateway can say what it waits for.

    Parameters
    ----------
    connect : Connect
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connected: Connected | None = None
        self._why_not = "starting"
        self._stack = AsyncExitStack()
        self._connecting: asyncio.Task[None] | None = None

    @property
    def service(self) -> GatewayService:
        """The service.

        Raises
        ------
        UnavailableError
            It is not connected yet.
        """
        if self._connected is None:
            raise UnavailableError(f"the gateway is not ready: {self._why_not}")
        return self._connected.service

    def problems(self) -> list[str]:
        """Return what keeps listeners from being served; nothing where all is well."""
        return [self._why_not] if self._connected is None else self._connected.problems()

    async def start(self) -> None:
        """Begin to connect."""
        self._connecting = in_background(self._keep_connecting())

    async def stop(self) -> None:
        """Disconnect."""
        if self._connecting is not None:
            await stop(self._connecting)
        self._connected = None
        await self._stack.aclose()

    async def _keep_connecting(self) -> None:
        while self._connected is None:
            async with AsyncExitStack() as stack:
                try:
                    self._connected = await self._connect(stack)
                except (BotifyError, *REDIS_ERRORS) as error:
                    if str(error) != self._why_not:
                        log.warning("not ready: %s", error)
                    self._why_not = str(error)
                else:
                    self._stack = stack.pop_all()
                    log.info("ready")
                    return
            await asyncio.sleep(CONNECT_AGAIN_S)
