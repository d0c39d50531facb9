"""What is out of bounds is sent away, and leaves nothing occupied."""

import asyncio
from typing import Any
from unittest.mock import AsyncMock, call

from starlette.types import Message, Receive, Scope, Send

from botify.services.gateway import ALL_SCOPES, Bounds
from botify.services.gateway.middleware import Limits, RateLimit, TokenRequired
from botify.services.gateway.operations import BODY


class App:
    """Answers when it may; `bodies` are those of the requests that it got."""

    def __init__(self, *, go_on: bool = True) -> None:
        self.go_on = asyncio.Event()
        self.bodies: list[bytes] = []
        if go_on:
            self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.bodies.append(scope[BODY])
        await self.go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


async def ask(
    app: Any, *parts: bytes, headers: Any = (), address: str | None = "10.0.0.7", leaves: bool = False
) -> int | None:
    """Post a body in parts, and return the status; a body without parts never ends, unless the client leaves."""
    messages: list[Message] = [
        {"type": "http.request", "body": part, "more_body": leaves or number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]
    messages += [{"type": "http.disconnect"}] if leaves else []
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0) if messages else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    client = None if address is None else (address, 1)
    scope = {"type": "http", "path": "/next/42", "method": "POST", "headers": list(headers), "client": client}
    await app(scope, receive, send)
    return sent[0]["status"] if sent else None


async def test_too_many_requests_in_progress_are_refused_at_once() -> None:
    slow = App(go_on=False)
    limited = Limits(slow, 2_500, Bounds(in_flight=2))
    first = [asyncio.create_task(ask(limited, b"a")) for _ in range(2)]
    await asyncio.sleep(0)
    refused = [await ask(limited, b"b") for _ in range(3)]
    slow.go_on.set()
    assert [*refused, *await asyncio.gather(*first), await ask(limited, b"c")] == [503, 503, 503, 200, 200, 200]


async def test_a_client_that_disconnects_frees_its_place() -> None:
    slow = App(go_on=False)
    limited = Limits(slow, 2_500, Bounds(in_flight=1))
    gone = asyncio.create_task(ask(limited, b"a"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    slow.go_on.set()
    assert (await ask(limited, b"b")) == 200


async def test_arriving_bodies_are_not_in_progress() -> None:
    limited = Limits(App(), 2_500, Bounds(in_flight=1))
    slow = [asyncio.create_task(ask(limited)) for _ in range(5)]
    await asyncio.sleep(0)
    answered = [await ask(limited, b"a") for _ in range(3)]
    for task in slow:
        task.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert answered == [200, 200, 200]


async def test_an_incomplete_body_is_not_served() -> None:
    app = App()
    assert await ask(Limits(app, 2_500, Bounds()), b'{"track": 1, "time": 0.5}', address=None, leaves=True) is None
    assert app.bodies == []


def test_each_client_has_a_rate_and_the_oldest_are_forgotten() -> None:
    limit = RateLimit(rate_per_s=1, clients=2)
    assert [limit.wait_s(client, 0.0) for client in ("a", "b", "a")] == [0.0, 0.0, 1.0]
    assert limit.wait_s("c", 0.0) == 0.0
    assert limit.wait_s("b", 0.0) == 0.0  # forgotten, so its bucket is full
    assert limit.wait_s("a", 0.5) == 0.0


async def test_a_token_has_a_rate_wherever_it_is_used() -> None:
    app = TokenRequired(Limits(App(), 2, Bounds()), {b"a": ALL_SCOPES, b"b": ALL_SCOPES})
    calls = (b"a", "10.0.0.1"), (b"a", "10.0.0.2"), (b"a", "10.0.0.3"), (b"b", "10.0.0.1")
    found = [await ask(app, b"", headers=[(b"authorization", b"Bearer " + one)], address=at) for one, at in calls]
    assert found == [200, 200, 429, 200]


async def test_nobody_chooses_the_address_that_is_counted() -> None:
    app = Limits(App(), 2, Bounds())
    found = [await ask(app, b"", headers=[(b"x-forwarded-for", b"10.0.0.%d" % at)]) for at in range(3)]
    assert found == [200, 200, 429]


async def test_a_websocket_without_a_token_that_allows_it_is_closed() -> None:
    receive, send = AsyncMock(return_value={"type": "websocket.connect"}), AsyncMock()
    guarded = TokenRequired(App(), {b"s3cret": frozenset({"serve"})})
    for headers in ([], [(b"authorization", b"Bearer s3cret")]):
        await guarded({"type": "websocket", "path": "/ui/_nicegui_ws", "headers": headers}, receive, send)
    assert send.await_args_list == [call({"type": "websocket.close", "code": 1008})] * 2
