"""The listener over HTTP, against a gateway without servers."""

import asyncio

from botify.client import AsyncBotify
from examples import http_client
from tests.unit.services.gateway.fakes import FakeGateway, in_process


def test_a_disliked_item_is_not_shown_again() -> None:
    gateway = FakeGateway()

    async def run() -> list[str]:
        async with in_process(gateway) as transport, AsyncBotify("http://gateway", transport=transport) as botify:
            return await http_client.listen_async(botify, "42")

    shown = asyncio.run(run())
    assert len(shown) == http_client.N
    assert not any(line.startswith("track 4 by") for line in shown)  # the last of the first round
    assert "because you heard" in shown[0]
    assert len(gateway.rpc.listens) == http_client.ROUNDS * http_client.N
