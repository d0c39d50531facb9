"""The shop shows what the gateway recommends to the visitor of the cookie, and tells it what the visitor does."""

import asyncio
from typing import Any

import httpx

from examples.shop import __main__ as shop
from tests.unit.services.gateway.fakes import FakeGateway, in_process


def visit(gateway: FakeGateway, calls: list[tuple[str, str, Any]]) -> list[httpx.Response]:
    """Return the shop's answers to calls of one visitor."""

    async def run() -> list[httpx.Response]:
        async with in_process(gateway) as transport:
            front = shop.build_app("http://gateway", transport=transport)
            served = httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://shop")
            async with front.router.lifespan_context(front), served as browser:
                return [await browser.request(method, path, json=body) for method, path, body in calls]

    return asyncio.run(run())


def test_a_visitor_is_shown_items_and_what_is_done_reaches_the_gateway() -> None:
    gateway = FakeGateway()
    before, page, shown, _, _, wrong, unknown, after = visit(
        gateway,
        [
            ("GET", "/items", None),
            ("GET", "/", None),
            ("GET", "/items", None),
            ("POST", "/events", {"kind": "play", "item": 4}),
            ("POST", "/events", {"kind": "dislike", "item": 5}),
            ("POST", "/events", {"kind": "buy", "item": 5}),
            ("POST", "/events", {"kind": "play", "item": "gone"}),
            ("GET", "/items", None),
        ],
    )
    assert before.status_code == 401
    assert "httponly" in page.headers["set-cookie"].lower()
    assert "<h1>For you</h1>" in page.text
    listed = shown.json()["items"]
    assert len(listed) == 10
    assert listed[0].keys() == {"item", "title", "artist", "why"}
    assert [listen.track for listen in gateway.rpc.listens] == [4]
    assert wrong.status_code == 422
    assert (unknown.status_code, "gone" in unknown.json()["detail"]) == (502, True)
    assert 5 not in {item["item"] for item in after.json()["items"]}
