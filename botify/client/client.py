"""The clients: the same calls, one blocking, one for asyncio.

A call is tried again, at most three times, while the service cannot serve (429, 503) or does not answer. Events have
ids, so a retry counts once.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from botify.client import calls
from botify.client.calls import Call
from botify.client.model import Event, Id, Item, ItemPage, Recommendations, UnavailableError, User

T = TypeVar("T")

TIMEOUT_S = 10.0


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


class Botify:
    """A client of the gateway at `url` that blocks; close it, or use it as a context manager.

    `transport` is an `httpx.BaseTransport`, for tests.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, transport: Any = None
    ) -> None:
        base = f"{url.rstrip('/')}/v1/"
        self._http = httpx.Client(base_url=base, headers=_headers(token), timeout=timeout_s, transport=transport)

    def recommendations(
        self,
        user: Id,
        n: int = 10,
        *,
        exclude: Sequence[Id] = (),
        filters: Sequence[str] = (),
        session: str | None = None,
        explain: bool = False,
    ) -> Recommendations:
        """Return recommendations; a filter is `field:value`, as `genre:rock`."""
        return self._do(calls.recommendations(user, n, exclude, filters, session, explain=explain))

    def send(self, *events: Event) -> list[str]:
        """Tell what listeners did, and return the ids of the events; many are sent in several requests."""
        ids: list[str] = []
        for part in calls.in_requests(events):
            sent: list[str] = self._do(calls.send(part))
            ids += sent
        return ids

    def item(self, item: Id) -> Item:
        """Return an item."""
        return self._do(calls.item("GET", item))

    def put_item(self, item: Id, *, title: str, artist: str, **fields: Any) -> Item:
        """Add or replace an item; fields are `album`, `genre`, `genres`, `mood`, `year` and `country`."""
        return self._do(calls.item("PUT", item, title=title, artist=artist, **fields))

    def delete_item(self, item: Id) -> Item:
        """Delete an item: it is never recommended again."""
        return self._do(calls.item("DELETE", item))

    def similar(self, item: Id, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items most similar to one."""
        return self._do(calls.page(f"{calls.item_path(item)}/similar", limit, cursor))

    def popular(self, limit: int = 20, cursor: str | None = None, *, half_life: str = "1d") -> ItemPage:
        """Return the most popular items, by a half-life of `1h`, `1d` or `30d`."""
        return self._do(calls.page("popular", limit, cursor, half_life=half_life))

    def rising(self, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items that are more popular in the last hour than in the last day."""
        return self._do(calls.page("rising", limit, cursor))

    def latest(self, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items that were added last."""
        return self._do(calls.page("latest", limit, cursor))

    def all_items(self, limit: int = 200) -> Iterator[Item]:
        """Return all items, the newest first, a page at a time."""
        cursor: str | None = None
        while True:
            page = self.latest(limit, cursor)
            yield from page.items
            if (cursor := page.next) is None:
                return

    def user(self, user: Id) -> User:
        """Return what is known of a listener."""
        return self._do(calls.user(user))

    def put_user(self, user: Id, *, likes: Sequence[Id] = (), dislikes: Sequence[Id] = ()) -> User:
        """Replace what a listener likes and dislikes; what is not named is withdrawn, what was heard stays."""
        return self._do(calls.put_user(user, likes, dislikes))

    def erase(self, user: Id) -> int:
        """Erase a listener; return how many listens no replay counts any more."""
        return self._do(calls.erase(user))

    def close(self) -> None:
        """Disconnect."""
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
    """A client of the gateway at `url` that is awaited; close it, or use it as a context manager.

    `transport` is an `httpx.AsyncBaseTransport`, for tests.
    """

    def __init__(
        self, url: str, *, token: str | None = None, timeout_s: float = TIMEOUT_S, transport: Any = None
    ) -> None:
        base = f"{url.rstrip('/')}/v1/"
        self._http = httpx.AsyncClient(base_url=base, headers=_headers(token), timeout=timeout_s, transport=transport)

    async def recommendations(
        self,
        user: Id,
        n: int = 10,
        *,
        exclude: Sequence[Id] = (),
        filters: Sequence[str] = (),
        session: str | None = None,
        explain: bool = False,
    ) -> Recommendations:
        """Return recommendations; a filter is `field:value`, as `genre:rock`."""
        return await self._do(calls.recommendations(user, n, exclude, filters, session, explain=explain))

    async def send(self, *events: Event) -> list[str]:
        """Tell what listeners did, and return the ids of the events; many are sent in several requests."""
        ids: list[str] = []
        for part in calls.in_requests(events):
            sent: list[str] = await self._do(calls.send(part))
            ids += sent
        return ids

    async def item(self, item: Id) -> Item:
        """Return an item."""
        return await self._do(calls.item("GET", item))

    async def put_item(self, item: Id, *, title: str, artist: str, **fields: Any) -> Item:
        """Add or replace an item; fields are `album`, `genre`, `genres`, `mood`, `year` and `country`."""
        return await self._do(calls.item("PUT", item, title=title, artist=artist, **fields))

    async def delete_item(self, item: Id) -> Item:
        """Delete an item: it is never recommended again."""
        return await self._do(calls.item("DELETE", item))

    async def similar(self, item: Id, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items most similar to one."""
        return await self._do(calls.page(f"{calls.item_path(item)}/similar", limit, cursor))

    async def popular(self, limit: int = 20, cursor: str | None = None, *, half_life: str = "1d") -> ItemPage:
        """Return the most popular items, by a half-life of `1h`, `1d` or `30d`."""
        return await self._do(calls.page("popular", limit, cursor, half_life=half_life))

    async def rising(self, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items that are more popular in the last hour than in the last day."""
        return await self._do(calls.page("rising", limit, cursor))

    async def latest(self, limit: int = 20, cursor: str | None = None) -> ItemPage:
        """Return the items that were added last."""
        return await self._do(calls.page("latest", limit, cursor))

    async def all_items(self, limit: int = 200) -> AsyncIterator[Item]:
        """Return all items, the newest first, a page at a time."""
        cursor: str | None = None
        while True:
            page = await self.latest(limit, cursor)
            for item in page.items:
                yield item
            if (cursor := page.next) is None:
                return

    async def user(self, user: Id) -> User:
        """Return what is known of a listener."""
        return await self._do(calls.user(user))

    async def put_user(self, user: Id, *, likes: Sequence[Id] = (), dislikes: Sequence[Id] = ()) -> User:
        """Replace what a listener likes and dislikes; what is not named is withdrawn, what was heard stays."""
        return await self._do(calls.put_user(user, likes, dislikes))

    async def erase(self, user: Id) -> int:
        """Erase a listener; return how many listens no replay counts any more."""
        return await self._do(calls.erase(user))

    async def close(self) -> None:
        """Disconnect."""
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
