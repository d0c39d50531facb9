import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from botify.core.settings import Settings
from botify.streams.replay.sources import ReplaySources, make_plan, open_sources
from botify.streams.replay.swap import begin_namespace
from botify.streams.store.namespaces import NamespaceRecord
from tests.integration.streams.listens import TRACKS, fold_live, write_listens
from tests.support import write_catalogue

T = TypeVar("T")


@pytest.fixture
def folded(settings: Settings) -> Settings:
    """A deployment whose state is up to date with 3,330 records: listens, copies of listens, and rubbish."""
    write_catalogue(settings, TRACKS)
    write_listens(settings, 3000, bad_every=100, twice_every=10)
    fold_live(settings)
    return settings


async def begin(sources: ReplaySources, sessions_to: str | None = None) -> NamespaceRecord:
    """Begin a replay of all that the topic has."""
    state = sources.state
    return await begin_namespace(sources, make_plan(sources.topic, state, state.start, state.end), sessions_to)


def with_sources(settings: Settings, work: Callable[[ReplaySources], Awaitable[T]]) -> T:
    async def go() -> T:
        async with open_sources(settings) as sources:
            return await work(sources)

    return asyncio.run(go())
