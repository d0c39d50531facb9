"""The shop shows what the gateway recommends to the visitor of the cookie, and tells it what the visitor does."""

import httpx

from examples.shop import __main__ as shop
from tests.unit.services.gateway.fakes import FakeGateway, in_process


async def test_a_visitor_is_shown_items_and_what_is_done_reaches_the_gateway() -> None:
    gateway = FakeGateway()
    async with in_process(gateway) as transport:
        front = shop.build_app("http://gateway", transport=transport)
        served = httpx.AsyncClient(transport=httpx.ASGITransport(front), base_url="http://shop")
        async with front.router.lifespan_context(front), served as browser:
            before, page, shown = [await browser.get(path) for path in ("/items", "/", "/items")]
            done = [("play", 4), ("dislike", 5), ("buy", 5), ("play", "gone")]
            _, _, wrong, unknown = [
                await browser.post("/events", json={"kind": kind, "item": item}) for kind, item in done
            ]
            after = await browser.get("/items")
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
