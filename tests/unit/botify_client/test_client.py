"""The clients against the gateway's own application, and their retries."""

import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from botify.client import AsyncBotify, Botify, Event, NotFoundError, ProblemError, UnavailableError, calls
from botify.services.gateway import Bounds
from tests.unit.services.gateway.fakes import TRACKS, FakeGateway, in_process

GATEWAY = "http://gateway"


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[AsyncBotify, FakeGateway]]:
    gateway = FakeGateway()
    async with in_process(gateway) as transport, AsyncBotify(GATEWAY, transport=transport) as botify:
        yield botify, gateway


async def test_every_call_is_understood() -> None:
    async with connected() as (botify, gateway):
        found = await botify.recommendations(42, 2, exclude=[0], filters=["genre:rock"], session="s", explain=True)
        assert [item.number for item in found.items] == [1, 2]
        first = found.items[0].reason
        assert (first.policy, first.because.number) == ("next_track", 2)
        assert [item.number for item in (await botify.group([42, "bob"], 2, exclude=[0])).items] == [1, 2]
        assert await botify.rows(42, 2, n=3) == {}
        heard = [Event.listen(42, 1, 0.5, time=datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)), Event.skip(42, 2)]
        ids = await botify.send(*heard, Event.like(42, 3), Event.dislike(42, 4), Event.unlike(42, 4))
        assert len(set(ids)) == 5
        assert [(one.track, one.fraction) for one in gateway.rpc.listens] == [(1, 0.5), (2, 0.0)]
        known = await botify.user(42)
        assert (known.likes, known.dislikes) == ([3], [])
        known = await botify.put_user(42, likes=[5], dislikes=[3])
        assert (known.likes, known.dislikes) == ([5], [3])
        known = await botify.put_user(42, attributes={"country": "de"})
        assert (known.likes, known.attributes) == ([5], {"country": "de"})
        assert list(await botify.rows(42)) == ["because you liked track 5 by artist 1"]
        assert await botify.erase(42) == 0
        assert (await botify.item(7)).title == "track 7"
        assert (await botify.put_item("new", title="New", artist="N", year=1999)).number == TRACKS
        assert (await botify.delete_item(7)).number == 7
        assert len((await botify.similar(3, limit=2)).items) == 2
        assert [item.number for item in (await botify.popular(2, half_life="1h")).items] == [0, 1]
        assert len((await botify.rising(2)).items) == 2
        assert len([item async for item in botify.all_items(limit=7)]) == TRACKS


async def test_refusals_are_errors_that_name_the_field() -> None:
    async with connected() as (botify, _):
        with pytest.raises(NotFoundError, match="there is no item 'none'"):
            await botify.item("none")
        with pytest.raises(ProblemError, match="/query/filter/0") as refused:
            await botify.recommendations(42, filters=["color:red"])
    assert refused.value.status == 422


def test_both_clients_have_the_same_calls() -> None:
    def calls_of(client: type) -> dict[str, Any]:
        return {
            name: inspect.signature(one).parameters
            for name, one in inspect.getmembers(client, inspect.isfunction)
            if not name.startswith("_")
        }

    assert calls_of(Botify) == calls_of(AsyncBotify)


@pytest.mark.parametrize("failure", [503, 429, httpx.ConnectError("refused")])
def test_a_call_is_tried_again(failure: int | httpx.ConnectError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "wait_s", lambda *_: 0.0)
    tries: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        tries.append(request)
        if len(tries) < 3:
            if isinstance(failure, int):
                return httpx.Response(failure, json={"detail": "later"})
            raise failure
        return httpx.Response(200, json={"ids": ["e"]})

    with Botify(GATEWAY, token="s3cret", transport=httpx.MockTransport(serve)) as botify:  # noqa: S106 - a test's
        assert botify.send(Event.listen("alice", "7")) == ["e"]
    assert len({request.content for request in tries}) == 1
    assert tries[0].headers["authorization"] == "Bearer s3cret"


def test_an_error_says_that_the_service_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "wait_s", lambda *_: 0.0)
    answers = httpx.MockTransport(lambda _: httpx.Response(503, json={"detail": "Kafka is not reachable"}))
    with Botify(GATEWAY, transport=answers) as botify, pytest.raises(UnavailableError, match="Kafka is not reachable"):
        botify.latest()


def test_the_wait_is_what_the_service_asks_for() -> None:
    assert calls.wait_s(httpx.Response(503, headers={"Retry-After": "2"}), 0) == 2.0
    assert calls.wait_s(None, 2) == pytest.approx(0.4)


def test_events_are_sent_in_parts_that_a_request_may_have() -> None:
    events = [Event.listen("a" if at % 2 else "b", "t", id=str(at)) for at in range(220)]
    events += [Event.like("a", "t", id=f"l{at}") for at in range(1_100)]
    parts = list(calls.in_requests(events))
    assert [len(part) for part in parts] == [100, 100, 1_000, 120]
    assert [event for part in parts for event in part] == events
    assert list(calls.in_requests([])) == []


def test_events_that_are_together_larger_than_a_body_may_be_are_sent_in_parts() -> None:
    items = [f"{at}-".ljust(200, "ü") for at in range(100)]
    events = [Event.shown("a", items, id=str(at)) for at in range(40)]
    parts = list(calls.in_requests(events))
    assert len(parts) > 1
    assert [event for part in parts for event in part] == events
    bodies = [httpx.Request("POST", GATEWAY, json=calls.send(part).body).content for part in parts]
    assert max(map(len, bodies)) <= Bounds().batch_bytes
