"""The service, wired to Kafka and Redis."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from schemas.catalogue import CatalogueReader
from schemas.registry import codec_of
from schemas.settings import Settings
from services.experiments import DEFAULT_FILE, load_experiments
from services.gateway.background import in_background, stop
from services.gateway.batching import Batching
from services.gateway.errors import NO_CATALOGUE, UnavailableError
from services.gateway.event_time import EventClock
from services.gateway.exchange import Exchange
from services.gateway.fallback import Fallback
from services.gateway.known_tracks import KnownTracks
from services.gateway.live_state import LiveState
from services.gateway.options import GatewayOptions
from services.gateway.service import GatewayService
from services.gateway.sessions import RedisSessions
from streams.read import StateReader
from streams.store.connect import SERVING_TIMEOUT_S, connect, connect_async
from streams.store.refusals import probe_writes_blocking

log = logging.getLogger(__name__)

STATE_EVERY_S = 1.0
CATALOGUE_EVERY_S = 10.0
NO_CATALOGUE_EVERY_S = 1.0


class ConnectedGateway:
    """A service over real servers, and what it depends on."""

    def __init__(
        self, service: GatewayService, exchange: Exchange, tracks: KnownTracks, state: LiveState, batching: Batching
    ) -> None:
        self.service = service
        self._exchange = exchange
        self._tracks = tracks
        self._state = state
        self._batching = batching

    def problems(self) -> list[str]:
        """Return what keeps it from serving listeners."""
        found = {
            "Kafka is not reachable": not self._exchange.reachable,
            "the recommendations are not read yet": not self._exchange.listening,
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
        See `Exchange`.
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
    exchange = await asyncio.to_thread(Exchange, settings, codec, id_prefix, options.deadline_ms / 1000)
    stack.push_async_callback(exchange.close)
    exchange.start()
    _keep(stack, lambda: STATE_EVERY_S, lambda: asyncio.to_thread(state.refresh))
    _keep(stack, lambda: CATALOGUE_EVERY_S if len(tracks) else NO_CATALOGUE_EVERY_S, tracks.look)
    service = GatewayService(
        options.deadline_ms,
        codec=codec,
        exchange=exchange,
        sessions=RedisSessions(batching, settings.topic_prefix),
        tracks=tracks,
        fallback=Fallback(lambda: state.popular, tracks.ids, lambda user: experiments.assign(user).treatments),
        clock=clock,
    )
    return ConnectedGateway(service, exchange, tracks, state, batching)


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
