"""The examples do what they promise, without servers."""

from pathlib import Path

import httpx
import numpy as np
import pytest

from botify.analytics import AnalyticsError
from botify.client import AsyncBotify
from examples import gymnasium_agent, http_client, off_policy, own_recommender, slates
from examples.shop import __main__ as shop
from tests.unit.analytics.listens import listen
from tests.unit.analytics.test_exported import write
from tests.unit.services.gateway.fakes import FakeGateway, in_process

TRACKS = 50


def test_the_recommender_is_better_than_popular_and_random_tracks(capsys: pytest.CaptureFixture[str]) -> None:
    judged, played = own_recommender.main(sessions=600)
    assert judged.recall_lower["follows"] > judged.recall_upper["toppop"]
    assert played.effect_lower["follows"] > 0
    assert "follows" in capsys.readouterr().out


def test_the_agent_learns_what_is_heard() -> None:
    means = gymnasium_agent.train(steps=1500)
    assert means[-300:].mean() > means[:300].mean()


def test_slates_are_estimated_as_they_are_heard() -> None:
    logged, values, ran = slates.evaluate(rounds=20)
    assert ran > 1.2 * logged
    assert all(value.lower <= ran <= value.upper for value in values.values())
    assert values["cascade IPS"].upper - values["cascade IPS"].lower < values["IPS"].upper - values["IPS"].lower


def test_the_estimate_is_what_the_policy_would_have_earned(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    listens = []
    for user in range(200):
        listens.append(listen(f"r-{user}-0", 0, track=0))
        for position in range(1, 30):
            track = int(rng.integers(TRACKS))
            fraction = 0.9 if track < off_policy.SIZE else 0.1
            listens.append(listen(f"r-{user}-0", position, track=track, fraction=fraction, propensity=1 / TRACKS))
    values = off_policy.evaluate(write(tmp_path, listens))
    assert values["SNIPS"].value == pytest.approx(0.9)
    assert values["IPS"].value == pytest.approx(0.9, abs=0.1)
    assert values["logged"].value == pytest.approx(0.42, abs=0.03)


def test_an_export_without_decisions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnalyticsError, match="no logged decisions"):
        off_policy.evaluate(write(tmp_path, [listen("r-1-0", 0)]))


async def test_over_http_a_disliked_item_is_not_shown_again() -> None:
    gateway = FakeGateway()
    async with in_process(gateway) as transport, AsyncBotify("http://gateway", transport=transport) as botify:
        shown = await http_client.listen_async(botify, "42")
    assert len(shown) == http_client.N
    assert not any(line.startswith("track 4 by") for line in shown)  # the last of the first round
    assert "because you heard" in shown[0]
    assert len(gateway.rpc.listens) == http_client.ROUNDS * http_client.N


async def test_a_visitor_of_the_shop_is_shown_items_and_what_is_done_reaches_the_gateway() -> None:
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
