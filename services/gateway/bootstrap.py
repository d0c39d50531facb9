"""The gateway as an ASGI application, wired to Kafka and Redis."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import compile_path

from botify.core.kafka.layout import live_layout
from botify.core.process import in_background, stop
from botify.core.settings import Settings
from botify.core.telemetry import new_registry
from botify.schemas.catalogue import CatalogueReader
from botify.schemas.external_ids import UserIds
from botify.schemas.models import ModelReader
from botify.schemas.registry import codec_of
from botify.schemas.topics import Topics, feedback_partitions
from botify.services.errors import UnavailableError
from botify.services.experiments import LiveExperiments, load_policy
from botify.services.gateway import ALL_SCOPES, NO_CATALOGUE, Bounds, GatewayOptions, scopes_of_tokens
from botify.services.gateway.api import DOCS, PAGES, BotifyApi
from botify.services.gateway.connections import Connections
from botify.services.gateway.middleware import GatewayMetrics, Limits, RequestTelemetry, TokenRequired
from botify.services.gateway.operations import HANDLED_ERRORS, Guard, Operations, error_response
from botify.services.gateway.rpc import RpcClient
from botify.services.gateway.scripts import ScriptBatcher
from botify.services.gateway.service import Backend, Connect, Connected, Fallback, GatewayService
from botify.services.gateway.sessions import ListenerNames, ListenerStore, SessionStore
from botify.services.gateway.state import EventClock, KnownTracks, LiveState
from botify.services.gateway.v1.api import OPENAPI, V1, V1Api
from botify.services.gateway.v1.events import EventPublisher
from botify.services.gateway.v1.feedback_file import Kinds, Rules, read_rules
from botify.services.gateway.v1.items import Charts, Items, Scores
from botify.services.gateway.v1.lists import Groups, Rows
from botify.services.gateway.v1.recommending import Recommending
from botify.services.gateway.v1.users import Erasures, Explainer, Users
from botify.streams.dlq.exclude import erase_listener
from botify.streams.learner.models.next_track import NextTrack
from botify.streams.learner.models.next_track_projection import NextTrackProjection, SimilarTracks
from botify.streams.read import StateReader
from botify.streams.store.connect import SERVING_TIMEOUT_S, connect, connect_async, probe_writes_blocking

log = logging.getLogger(__name__)

STATE_EVERY_S = 1.0
CATALOGUE_EVERY_S = 10.0
NO_CATALOGUE_EVERY_S = 1.0
RULES_EVERY_S = 1.0


def build_app(
    settings: Settings,
    options: GatewayOptions | None = None,
    bounds: Bounds = Bounds(),  # noqa: B008 - immutable
    *,
    connect: Connect | None = None,  # over Kafka and Redis if not given
    connections: Connections | None = None,  # those of the server, for the metrics
    home: str = DOCS,  # where a browser is sent that asks for `/`
    users: UserIds | None = None,  # those of the settings if not given
    start_wait_s: float = 0.0,  # how long calls may wait until it has connected
) -> Starlette:
    """Return the application; it connects when it is started. Raises `BotifyError` for a wrong setting."""
    options = options or GatewayOptions()
    id_prefix = f"g{secrets.token_hex(6)}"
    kinds = Kinds.of(settings.feedback)
    read_rules(settings.feedback)  # a mistake stops the start
    connect = connect or partial(connect_gateway, settings, options, id_prefix, users or UserIds.of(settings), kinds)
    backend = Backend(connect)
    metrics = GatewayMetrics(backend.problems, connections)
    registry = new_registry()
    registry.register(metrics)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await backend.start(start_wait_s)
        try:
            yield
        finally:
            await backend.stop()

    botify = BotifyApi(backend, metrics, registry, home)
    v1_api = V1Api(lambda: backend.connected.v1, metrics)
    operations = [*botify.operations, *v1_api.operations]
    own_token = secrets.token_urlsafe(32)  # for what runs in this process
    token = []
    if options.token is not None:
        tokens = {**scopes_of_tokens(options.token), own_token.encode(): ALL_SCOPES}
        guards: list[Guard] = [operation.guard() for operation in operations]
        guards += [("GET", compile_path(path)[0], "serve") for path in (*PAGES, OPENAPI)]
        token = [Middleware(TokenRequired, tokens=tokens, guards=guards)]
    app = Starlette(
        routes=[*botify.pages(secured=bool(token)), v1_api.page(secured=bool(token))],
        middleware=[
            Middleware(RequestTelemetry, id_prefix=id_prefix, metrics=metrics),
            *token,
            Middleware(Limits, rate_per_s=options.rate_per_s, bounds=bounds),
            Middleware(Operations, operations=operations),
        ],
        exception_handlers=dict.fromkeys(HANDLED_ERRORS, error_response),
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False  # it redirects to whatever host the client names
    app.state.responses = metrics.requests
    app.state.token = own_token
    return app


async def connect_gateway(
    settings: Settings, options: GatewayOptions, id_prefix: str, users: UserIds, kinds: Kinds, stack: AsyncExitStack
) -> Connected:
    """Read the catalogue, connect, and keep what changes up to date; a `Connect` with its first parameters bound.

    Raises `BotifyError` if Kafka or Redis cannot be reached, or the experiments file is invalid.
    """
    settings = await asyncio.to_thread(live_layout, settings)
    codec, clock = codec_of(settings), EventClock(settings.partitions)
    experiments = LiveExperiments(settings, codec, load_policy(settings))
    stack.callback(experiments.close)
    await asyncio.to_thread(experiments.start)
    redis = await asyncio.to_thread(connect, settings, SERVING_TIMEOUT_S)
    stack.callback(redis.close)
    partitions, reader = range(settings.partitions), StateReader(redis, settings)
    state = LiveState(reader, clock, lambda: probe_writes_blocking(redis, settings.topic_prefix, partitions))
    await asyncio.to_thread(state.refresh)
    tracks = KnownTracks(await asyncio.to_thread(CatalogueReader, settings, codec))
    stack.push_async_callback(tracks.close)
    await tracks.refresh()
    batcher = ScriptBatcher(connect_async(settings, SERVING_TIMEOUT_S))
    stack.push_async_callback(batcher.close)
    rpc = await asyncio.to_thread(RpcClient, settings, codec, id_prefix, options.deadline_ms / 1000)
    stack.push_async_callback(rpc.close)
    rpc.start()
    topic, of_feedback = Topics.of(settings).feedback.name, await asyncio.to_thread(feedback_partitions, settings)
    listeners = ListenerStore(batcher, settings.topic_prefix, lambda: reader.last_namespace, of_feedback)
    _repeat(stack, lambda: STATE_EVERY_S, lambda: asyncio.to_thread(state.refresh))
    _repeat(stack, lambda: CATALOGUE_EVERY_S if len(tracks) else NO_CATALOGUE_EVERY_S, tracks.follow)
    service = GatewayService(
        deadline_ms=options.deadline_ms,
        codec=codec,
        rpc=rpc,
        sessions=SessionStore(batcher, settings.topic_prefix),
        names=ListenerNames(users, listeners, rpc, clock, topic, codec),
        tracks=tracks,
        fallback=Fallback(
            lambda: tracks.offered(state.popular), tracks.ids, lambda user: experiments.assign(user).treatments
        ),
        clock=clock,
    )

    def problems() -> list[str]:
        found = [
            rpc.problem,
            None if rpc.listening else "the recommendations are not read yet",
            None if len(tracks) else NO_CATALOGUE,
            batcher.problem or state.problem,
        ]
        return [problem for problem in found if problem is not None]

    v1 = await _connect_v1(settings, service, listeners, redis, reader, kinds, stack)
    return Connected(service, problems, v1)


async def _connect_v1(
    settings: Settings,
    service: GatewayService,
    listeners: ListenerStore,
    redis: Any,
    reader: StateReader,
    kinds: Kinds,
    stack: AsyncExitStack,
) -> V1:
    """Follow the graph of `next_track` for similar items, and return what serves `/v1`; raises `BotifyError`."""
    topics = Topics.of(settings)
    models = await asyncio.to_thread(ModelReader, settings, service.codec)
    similar = models.follow(NextTrack.name, lambda model: SimilarTracks(model.body), NextTrackProjection.merged)
    await asyncio.to_thread(models.start)
    stack.push_async_callback(asyncio.to_thread, models.close)
    events = EventPublisher(service, listeners, topics.feedback.name, kinds)
    erasures = Erasures(
        redis,
        settings.topic_prefix,
        lambda user: reader.users([user]) != [None],
        lambda user, known: erase_listener(settings, user, lambda at: reader.checkpoints().get(at), known),
    )

    def neighbours(track: int) -> Scores:
        newest = similar.current
        return [] if newest is None else newest.of(track)

    rules = Rules(settings.feedback, lambda item: None if (one := service.tracks.known(item)) is None else one.track)

    async def refresh_rules() -> None:
        rules.refresh()

    if settings.feedback is not None:
        _repeat(stack, lambda: RULES_EVERY_S, refresh_rules)
    recommending = Recommending(service, listeners, kinds, rules.now)
    items = Items(service, listeners, Charts(reader), neighbours, topics.catalogue.name)
    return V1(
        recommending,
        events,
        items,
        Users(service, listeners, reader, erasures, events),
        Rows(recommending, items, reader),
        Groups(recommending),
        Explainer(settings),
    )


def _repeat(stack: AsyncExitStack, every_s: Callable[[], float], work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        while True:
            await asyncio.sleep(every_s())
            try:
                await work()
            except UnavailableError as error:
                log.warning("%s", error)

    stack.push_async_callback(stop, in_background(run()))
