"""The listener over HTTP, against a gateway without servers."""

import asyncio

import httpx

from botify.client import AsyncBotify
from botify.core.settings import Settings
from botify.services.gateway.bootstrap import build_app
from examples import http_client
from tests.unit.services.gateway.fakes import FakeGateway


def test_a_disliked_item_is_not_shown_again() -> None:
    gateway = FakeGateway()
    app = build_app(Settings(), connect=gateway.connect)
    transport = httpx.ASGITransport(app)

    async def run() -> list[str]:
        async with app.router.lifespan_context(app), AsyncBotify("http://gateway", transport=transport) as botify:
            async with asyncio.timeout(5):
                while (await httpx.AsyncClient(transport=transport).get("http://gateway/readyz")).status_code != 200:
                    await asyncio.sleep(0)
            return await http_client.listen_async(botify, "42")

    shown = asyncio.run(run())
    assert len(shown) == http_client.N
    assert not any(line.startswith("track 4 by") for line in shown)  # the last of the first round
    assert "because you heard" in shown[0]
    assert len(gateway.rpc.listens) == http_client.ROUNDS * http_client.N
