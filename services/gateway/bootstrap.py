"""The service, wired to Kafka and Redis, through the times when these are away."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Protocol

from core.errors import BotifyError
from core.process import in_background, stop
from core.settings import Settings
from schemas.catalogue import CatalogueReader
from schemas.registry import codec_of
from services.experiments import DEFAULT_FILE, load_experiments
from services.gateway.errors import NO_CATALOGUE, UnavailableError
from services.gateway.options import GatewayOptions
from services.gateway.rpc import RpcClient
from services.gateway.service import Fallback, GatewayService
from services.gateway.sessions import Batching, RedisSessionStore
from services.gateway.state import EventClock, KnownTracks, LiveState
from streams.read import StateReader
from streams.store.connect import REDIS_ERRORS, SERVING_TIMEOUT_S, connect, connect_async, probe_writes_blocking

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


STATE_EVERY_S = 1.0
CATALOGUE_EVERY_S = 10.0
NO_CATALOGUE_EVERY_S = 1.0


class ConnectedGateway:
    """A service over real servers, and what it depends on."""

    def __init__(
        self, service: GatewayService, rpc: RpcClient, tracks: KnownTracks, state: LiveState, batching: Batching
    ) -> None:
        self.service = service
        self._rpc = rpc
        self._tracks = tracks
        self._state = state
        self._batching = batching

    def problems(self) -> list[str]:
        """Return what keeps it from serving listeners."""
        found = {
            "Kafka is not reachable": not self._rpc.reachable,
            "the recommendations are not read yet": not self._rpc.listening,
            NO_CATALOGUE: not len(self._tracks),
        }
        redis = self._batching.problem or self._state.problem
        return [problem for problem, there in found.items() if there] + ([] if redis is None else [redis])


async def connect_gateway(
    settings: Settings, options: GatewayOptions, id_prefix: str, stack: AsyncExitStack
) -> ConnectedGateway:
    """Read the catalogue, connect, and keep what changes up to date.

    Parameters
    ----------
    settings : Settings
    options : GatewayOptions
    id_prefix : str
        See `RpcClient`.
    stack : AsyncExitStack
        Gets what has to be stopped.

    Raises
    ------
    BotifyError
        Kafka or Redis cannot be reached, or the experiments file is wrong.
    """
    codec, clock = codec_of(settings), EventClock(settings.partitions)
    experiments = load_experiments(settings.experiments or DEFAULT_FILE, _AnyRecommender())
    redis = await asyncio.to_thread(connect, settings, SERVING_TIMEOUT_S)
    stack.callback(redis.close)
    state = LiveState(
        StateReader(redis, settings),
        clock,
        lambda: probe_writes_blocking(redis, settings.topic_prefix, range(settings.partitions)),
    )
    await asyncio.to_thread(state.refresh)
    tracks = KnownTracks(await asyncio.to_thread(CatalogueReader, settings, codec))
    stack.push_async_callback(tracks.close)
    await tracks.look()
    batching = Batching(connect_async(settings, SERVING_TIMEOUT_S))
    stack.push_async_callback(batching.close)
    rpc = await asyncio.to_thread(RpcClient, settings, codec, id_prefix, options.deadline_ms / 1000)
    stack.push_async_callback(rpc.close)
    rpc.start()
    _keep(stack, lambda: STATE_EVERY_S, lambda: asyncio.to_thread(state.refresh))
    _keep(stack, lambda: CATALOGUE_EVERY_S if len(tracks) else NO_CATALOGUE_EVERY_S, tracks.look)
    service = GatewayService(
        options.deadline_ms,
        codec=codec,
        rpc=rpc,
        sessions=RedisSessionStore(batching, settings.topic_prefix),
        tracks=tracks,
        fallback=Fallback(lambda: state.popular, tracks.ids, lambda user: experiments.assign(user).treatments),
        clock=clock,
    )
    return ConnectedGateway(service, rpc, tracks, state, batching)


class _AnyRecommender:
    """Which recommenders there are is the recommender service's business."""

    def __contains__(self, name: object) -> bool:
        return True


def _keep(stack: AsyncExitStack, every_s: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
    """Do some work now and then, until the stack is closed."""

    async def go_on() -> None:
        while True:
            await asyncio.sleep(every_s())
            try:
                await work()
            except UnavailableError as error:
                log.warning("%s", error)

    stack.push_async_callback(stop, in_background(go_on()))
