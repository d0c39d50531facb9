"""A client of Botify's `/v1`, synchronous and asynchronous; needs nothing of Botify but this package, and httpx.

>>> from botify.client import Botify, Event
>>> with Botify("http://127.0.0.1:8000") as botify:  # doctest: +SKIP
...     botify.send(Event.listen("alice", "t-17"))
...     [item.item for item in botify.recommendations("alice", n=3).items]

A call is tried again, at most three times, while the service cannot serve (429, 503) or does not answer. Events have
ids, so a retry counts once. `botify.client.calls` has the parameters of each call.
"""

import asyncio
import functools
import inspect
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from botify.client import calls
from botify.client.calls import Call
from botify.client.model import (
    BotifyClientError,
    Event,
    Item,
    ItemPage,
    NotFoundError,
    ProblemError,
    Reason,
    Recommendations,
    UnavailableError,
    User,
)

__all__ = [
    "AsyncBotify",
    "Botify",
    "BotifyClientError",
    "Event",
    "Item",
    "ItemPage",
    "NotFoundError",
    "ProblemError",
    "Reason",
    "Recommendations",
    "UnavailableError",
    "User",
]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

TIMEOUT_S = 10.0


def _options(url: str, token: str | None, timeout_s: float, transport: Any) -> dict[str, Any]:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return {"base_url": f"{url.rstrip('/')}/v1/", "headers": headers, "timeout": timeout_s, "transport": transport}


def _as(make: Callable[..., Any], method: F) -> F:
    """Give a method the name, text and parameters of the function that makes its call."""
    functools.update_wrapper(method, make)
    own, given = inspect.signature(method, follow_wrapped=False), inspect.signature(make)
    client = next(iter(own.parameters.values()))
    method.__signature__ = given.replace(parameters=[client, *given.parameters.values()])  # type: ignore[attr-defined]
    return method


def _blocking(make: Callable[P, Call[T]]) -> "Callable[Concatenate[Botify, P], T]":
    def method(self: "Botify", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._do(make(*args, **kwargs))

    return _as(make, method)


def _awaited(make: Callable[P, Call[T]]) -> "Callable[Concatenate[AsyncBotify, P], Coroutine[Any, Any, T]]":
    async def method(self: "AsyncBotify", /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(make(*args, **kwargs))

    return _as(make, method)


class Botify:
    """A client of the gateway at `url` that blocks; close it, or use it as a context manager."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, transport: Any = None
    ) -> None:
        self._http = httpx.Client(**_options(url, token, timeout_s, transport))

    recommendations = _blocking(calls.recommendations)
    rows = _blocking(calls.rows)
    group = _blocking(calls.group)
    item = _blocking(calls.item)
    put_item = _blocking(calls.put_item)
    delete_item = _blocking(calls.delete_item)
    similar = _blocking(calls.similar)
    popular = _blocking(calls.popular)
    rising = _blocking(calls.rising)
    latest = _blocking(calls.latest)
    user = _blocking(calls.user)
    put_user = _blocking(calls.put_user)
    erase = _blocking(calls.erase)

    def send(self, *events: Event) -> list[str]:
        """Tell what listeners did, and return the ids of the events; many are sent in several requests."""
        return [id_ for part in calls.in_requests(events) for id_ in self._do(calls.send(part))]

    def all_items(self, limit: int = 200) -> Iterator[Item]:
        """Return all items, the newest first, a page at a time."""
        page = self.latest(limit)
        yield from page.items
        while page.next is not None:
            page = self.latest(limit, page.next)
            yield from page.items

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _do(self, call: Call[T]) -> T:
        answer, error = None, ""
        for retry in range(calls.RETRIES + 1):
            if retry:
                time.sleep(calls.wait_s(answer, retry - 1))
            try:
                answer = self._http.request(call.method, call.path, params=list(call.parameters), json=call.body)
            except httpx.TransportError as failure:
                answer, error = None, repr(failure)
                continue
            if answer.status_code not in calls.RETRIED:
                break
        if answer is None:
            raise UnavailableError(f"{self._http.base_url} does not answer: {error}")
        return calls.read_answer(call, answer)


class AsyncBotify:
    """A client of the gateway at `url` that is awaited; close it, or use it as a context manager."""

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, transport: Any = None
    ) -> None:
        self._http = httpx.AsyncClient(**_options(url, token, timeout_s, transport))

    recommendations = _awaited(calls.recommendations)
    rows = _awaited(calls.rows)
    group = _awaited(calls.group)
    item = _awaited(calls.item)
    put_item = _awaited(calls.put_item)
    delete_item = _awaited(calls.delete_item)
    similar = _awaited(calls.similar)
    popular = _awaited(calls.popular)
    rising = _awaited(calls.rising)
    latest = _awaited(calls.latest)
    user = _awaited(calls.user)
    put_user = _awaited(calls.put_user)
    erase = _awaited(calls.erase)

    async def send(self, *events: Event) -> list[str]:
        """Tell what listeners did, and return the ids of the events; many are sent in several requests."""
        return [id_ for part in calls.in_requests(events) for id_ in await self._do(calls.send(part))]

    async def all_items(self, limit: int = 200) -> AsyncIterator[Item]:
        """Return all items, the newest first, a page at a time."""
        cursor: str | None = None
        while True:
            page = await self.latest(limit, cursor)
            for item in page.items:
                yield item
            if (cursor := page.next) is None:
                return

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self.close()

    async def _do(self, call: Call[T]) -> T:
        answer, error = None, ""
        for retry in range(calls.RETRIES + 1):
            if retry:
                await asyncio.sleep(calls.wait_s(answer, retry - 1))
            try:
                answer = await self._http.request(call.method, call.path, params=list(call.parameters), json=call.body)
            except httpx.TransportError as failure:
                answer, error = None, repr(failure)
                continue
            if answer.status_code not in calls.RETRIED:
                break
        if answer is None:
            raise UnavailableError(f"{self._http.base_url} does not answer: {error}")
        return calls.read_answer(call, answer)
