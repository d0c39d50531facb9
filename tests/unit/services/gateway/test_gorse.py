"""Gorse's REST API as its clients call it; the real client calls in the integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.errors import SettingsError
from schemas.codec import Codec
from schemas.events import Feedback, Track
from schemas.external_ids import UserIds
from services.gateway.gorse.records import NEVER
from services.gateway.options import GatewayOptions
from tests.unit.services.gateway.fakes import NOW_MS, TRACKS, FakeGateway, serving
from tests.unit.services.recommender.recommending import state_of

CODEC = Codec()
OPTIONS = GatewayOptions.from_env({"BOTIFY_GATEWAY_GORSE": "play=listen,hate=dislike"})
LONG_AGO = "1970-01-01T00:10:00Z"


@pytest.fixture
def gateway() -> FakeGateway:
    gateway = FakeGateway()
    tracks = gateway.catalogue.tracks.items()
    gateway.catalogue.put(
        [one._replace(external_id=f"t{number}", genre="rock" if number % 2 else "pop") for number, one in tracks]
    )
    return gateway


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[TestClient]:
    with serving(gateway, OPTIONS, UserIds(["alice", "bob"])) as client:
        yield client


def answered(response: Any) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def refused(response: Any, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("text/plain")
    return str(response.text)


def feedback(type_: str, item: str, timestamp: str = LONG_AGO, **more: object) -> dict[str, object]:
    return {"FeedbackType": type_, "UserId": "alice", "ItemId": item, "Timestamp": timestamp, **more}


def said(gateway: FakeGateway) -> list[tuple[str, int]]:
    """The likes and dislikes on the topic."""
    found = [CODEC.decode(value, Feedback) for topic, value in gateway.rpc.published if topic == "feedback"]
    return [(one.kind, one.track) for one in found]


def put(gateway: FakeGateway) -> list[Track]:
    """Take over what is on the catalogue's topic, and return it."""
    found = [CODEC.decode(value, Track) for topic, value in gateway.rpc.published if topic == "catalogue"]
    gateway.catalogue.put(found)
    return found


def test_it_is_off_by_default(gateway: FakeGateway) -> None:
    with serving(gateway) as client:
        assert client.get("/api/popular").status_code == 404


@pytest.mark.parametrize("value", ["yes", "star=love", "=like"])
def test_a_wrong_mapping_names_the_kinds(value: str) -> None:
    with pytest.raises(SettingsError, match=r"BOTIFY_GATEWAY_GORSE: .*kinds are listen, skip, like, dislike, unlike"):
        GatewayOptions.from_env({"BOTIFY_GATEWAY_GORSE": value})


def test_the_api_key_is_the_token(gateway: FakeGateway) -> None:
    options = GatewayOptions.from_env({"BOTIFY_GATEWAY_GORSE": "on", "BOTIFY_GATEWAY_TOKEN": "s3cret"})
    with serving(gateway, options) as client:
        assert client.get("/api/popular").status_code == 401
        assert client.get("/api/popular", headers={"X-API-Key": "other"}).status_code == 401
        answered(client.get("/api/popular", headers={"X-API-Key": "s3cret"}))
        assert client.get("/v1/popular", headers={"X-API-Key": "s3cret"}).status_code == 401


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_feedback_becomes_events(client: TestClient, gateway: FakeGateway, method: str) -> None:
    now = datetime.now(UTC).isoformat()
    told = [
        feedback("read", "t3", now, Value=0.5),
        feedback("play", "t4", now, Value=7),
        feedback("star", "t5"),
        feedback("hate", "t6"),
        feedback("skip", "t7"),
    ]
    assert answered(client.request(method, "/api/feedback", json=told)) == {"RowAffected": 5}
    listens = [(one.track, one.fraction, one.timestamp_ms) for one in gateway.rpc.listens]
    assert listens == [(3, 0.5, NOW_MS), (4, 1.0, NOW_MS), (7, 0.0, 600_000)]
    assert said(gateway) == [("like", 5), ("dislike", 6)]
    assert answered(client.request(method, "/api/feedback", json=[])) == {"RowAffected": 0}


def test_a_recent_listen_belongs_to_what_was_recommended(client: TestClient, gateway: FakeGateway) -> None:
    answered(client.get("/api/recommend/alice?n=2"))
    now = datetime.now(UTC).isoformat()
    client.post("/api/feedback", json=[feedback("read", "t0", now), feedback("read", "t1")])
    assert [one.recommender for one in gateway.rpc.listens] == ["next_track", None]


def test_the_same_feedback_has_the_same_event_id(client: TestClient, gateway: FakeGateway) -> None:
    for timestamp in (LONG_AGO, LONG_AGO, "1970-01-01T00:11:00Z"):
        client.post("/api/feedback", json=[feedback("read", "t3", timestamp)])
    first, second, third = [one.event_id for one in gateway.rpc.listens]
    assert first == second != third


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ([feedback("purchase", "t3")], "BOTIFY_GATEWAY_GORSE, as in purchase=like"),
        ([feedback("read", "none")], "'none'"),
        ([feedback("read", "t3", "yesterday")], "Timestamp: 'yesterday'"),
        ([feedback("read", "t3", Value=-1)], "0/Value"),
        ([feedback("read", "t3", Colour="red")], "0/Colour"),
        ([feedback("read", "t1"), {**feedback("read", "t3"), "UserId": ""}], "UserId"),
        ({}, "list"),
    ],
)
def test_wrong_feedback_is_named_and_none_is_taken(
    client: TestClient, gateway: FakeGateway, told: object, words: str
) -> None:
    assert words in refused(client.post("/api/feedback", json=told), 400)
    assert (gateway.rpc.listens, gateway.rpc.published) == ([], [])


def test_feedback_of_a_user_is_read_and_withdrawn(client: TestClient, gateway: FakeGateway) -> None:
    gateway.reader.states[0] = state_of([(7, 0.5), (8, 1.0)])
    client.post("/api/feedback", json=[feedback("star", "t3")])
    every = answered(client.get("/api/user/alice/feedback"))
    assert [(one["FeedbackType"], one["ItemId"]) for one in every] == [
        ("listen", "t8"),
        ("listen", "t7"),
        ("like", "t3"),
    ]
    star = {"FeedbackType": "star", "UserId": "alice", "ItemId": "t3", "Timestamp": NEVER, "Value": 0.0, "Comment": ""}
    assert answered(client.get("/api/user/alice/feedback/star")) == [star]
    assert answered(client.get("/api/feedback/star/alice/t3")) == star
    assert [one["Value"] for one in answered(client.get("/api/feedback/alice/t7"))] == [0.5]
    assert answered(client.get("/api/user/bob/feedback")) == []
    refused(client.get("/api/feedback/star/alice/t7"), 404)

    assert "botify dlq exclude" in refused(client.delete("/api/feedback/alice/t7"), 501)
    assert answered(client.delete("/api/feedback/star/alice/t3")) == {"RowAffected": 1}
    assert said(gateway)[-1] == ("unlike", 3)
    assert answered(client.delete("/api/feedback/alice/t3")) == {"RowAffected": 0}


def test_users_need_not_be_inserted(client: TestClient, gateway: FakeGateway) -> None:
    one = client.post("/api/user", json={"UserId": "carol", "Labels": {"age": 24}, "Comment": "mine"})
    assert (answered(one), one.headers["X-Botify-Ignored"]) == ({"RowAffected": 1}, "Comment, Labels")
    two = client.post("/api/users", json=[{"UserId": "carol"}, {"UserId": "dave"}])
    assert (answered(two), two.headers.get("X-Botify-Ignored")) == ({"RowAffected": 2}, None)
    assert client.patch("/api/user/carol", json={"Comment": "x"}).headers["X-Botify-Ignored"] == "Comment"
    assert "carol" in refused(client.get("/api/user/carol"), 404)
    gateway.reader.states[0] = state_of([(7, 0.5)])
    assert answered(client.get("/api/user/alice")) == {"UserId": "alice", "Labels": None, "Comment": ""}
    assert answered(client.delete("/api/user/alice")) == {"RowAffected": 1}
    assert gateway.reader.erased == [0]


def test_a_users_id_is_a_number_without_a_dataset(gateway: FakeGateway) -> None:
    with serving(gateway, OPTIONS) as client:
        assert "BOTIFY_DATASET" in refused(client.get("/api/recommend/alice"), 400)
        assert answered(client.get("/api/recommend/42?n=1")) == ["t0"]


def test_items_are_inserted_read_changed_and_deleted(client: TestClient, gateway: FakeGateway) -> None:
    labels = {"artist": "N", "year": 1999, "colour": "red"}
    item = {
        "ItemId": "new",
        "Categories": ["rock", "pop"],
        "Labels": labels,
        "Comment": "New",
        "Timestamp": "2022-02-24",
    }
    answer = client.post("/api/item", json=item)
    assert (answered(answer), answer.headers["X-Botify-Ignored"]) == ({"RowAffected": 1}, "Labels.colour, Timestamp")
    assert put(gateway) == [Track(TRACKS, "N", None, "rock", "New", "new", ["rock", "pop"], None, 1999, None)]
    assert answered(client.get("/api/item/new")) == {
        "ItemId": "new", "IsHidden": False, "Categories": ["rock", "pop"], "Timestamp": NEVER, "Comment": "New",
        "Labels": {"title": "New", "artist": "N", "year": 1999},
    }  # fmt: skip
    nothing = dict.fromkeys(("Categories", "Comment", "IsHidden", "Labels", "Timestamp"))
    for patch, changed in (
        ({"Comment": "Newer"}, {"title": "Newer"}),
        ({"Categories": ["folk"]}, {"title": "Newer", "genre": "folk", "genres": ["folk"]}),
        ({"IsHidden": True}, {"deleted": True, "genre": "folk", "genres": ["folk"]}),
        ({"IsHidden": False, "Labels": {"artist": "M"}}, {"deleted": False, "artist": "M"}),
    ):
        assert answered(client.patch("/api/item/new", json={**nothing, **patch})) == {"RowAffected": 1}
        assert put(gateway)[-1]._asdict().items() >= changed.items()
    assert answered(client.delete("/api/item/new")) == {"RowAffected": 1}
    put(gateway)
    for response in (
        client.get("/api/item/new"),
        client.delete("/api/item/new"),
        client.patch("/api/item/new", json={}),
    ):
        assert "'new'" in refused(response, 404)


def test_items_in_one_call(client: TestClient, gateway: FakeGateway) -> None:
    items = [{"ItemId": "n1"}, {"ItemId": "n2", "IsHidden": True}, {"ItemId": "t3", "Comment": "Three"}]
    looks = gateway.catalogue.looks
    assert answered(client.post("/api/items", json=items)) == {"RowAffected": 3}
    assert gateway.catalogue.looks <= looks + 2  # and not once an item
    found = [(one.external_id, one.artist, one.title, one.deleted) for one in put(gateway)]
    assert found == [("n1", "n1", "n1", False), ("n2", "n2", "n2", True), ("t3", "t3", "Three", False)]
    assert "ItemId" in refused(client.post("/api/items", json=[{"Comment": "x"}]), 400)


def test_digits_are_an_external_id_where_one_is_called_so(gateway: FakeGateway) -> None:
    gateway.catalogue.put([Track(0, "A", None, None, "T", "7")])
    with serving(gateway, OPTIONS) as client:
        assert answered(client.get("/api/item/7"))["Comment"] == "T"
        assert answered(client.get("/api/item/8"))["ItemId"] == "t8"
        client.post("/api/item", json={"ItemId": "99"})
    assert put(gateway)[-1].track == 99


def test_all_items_are_paged(client: TestClient) -> None:
    first = answered(client.get("/api/items?n=15&cursor="))
    second = answered(client.get(f"/api/items?n=15&cursor={first['Cursor']}"))
    assert second["Cursor"] == ""
    assert [one["ItemId"] for one in first["Items"] + second["Items"]] == [f"t{n}" for n in range(TRACKS - 1, -1, -1)]
    assert "/ui/" in refused(client.get("/api/items?q=blue&n=3"), 501)
    refused(client.get("/api/items?cursor=x"), 400)


def test_recommendations(client: TestClient, gateway: FakeGateway) -> None:
    assert answered(client.get("/api/recommend/alice/?n=3&offset=1")) == ["t1", "t2", "t3"]
    scored = client.get("/api/recommend/alice/rock?n=2&offset=0", headers={"X-API-Version": "2"})
    assert answered(scored) == [{"Id": "t0", "Score": 0.0}, {"Id": "t1", "Score": -1.0}]
    assert len(answered(client.get("/api/recommend/alice?category=pop"))) == 10
    assert [one.slate and one.slate["filters"] for one in gateway.rpc.requests] == [[], ["genre:rock"], ["genre:pop"]]
    gateway.rpc.silent = True
    assert sorted(answered(client.get("/api/recommend/alice?n=5"))) == ["t3", "t4"]
    assert "botify_gateway_fallbacks_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("recommend/alice?write-back-type=read", 501, "write-back-type"),
        ("recommend/alice?category=rock&category=pop", 501, "category"),
        ("recommend/alice?n=90&offset=11", 400, "at most 100"),
        ("recommend/alice?n=0", 400, "at least 1"),
        ("popular?n=many", 400, "'many'"),
        ("item/none/neighbors", 404, "'none'"),
        ("users?n=3", 501, "botify export"),
        ("feedback?n=3", 501, "botify export"),
        ("feedback/star", 501, "botify export"),
        ("user/alice/neighbors", 501, "docs/gorse.md"),
        ("dashboard/stats", 501, "docs/gorse.md"),
    ],
)
def test_what_cannot_be_answered_is_said(client: TestClient, path: str, status: int, words: str) -> None:
    assert words in refused(client.get(f"/api/{path}"), status)


def test_lists_have_categories_and_leave_out_what_a_user_knows(client: TestClient, gateway: FakeGateway) -> None:
    gateway.graph = {1: [(9, 0.9), (8, 0.5)]}
    gateway.reader.states[0] = state_of([(0, 0.5), (19, 1.0)])

    def ids(path: str) -> list[str]:
        return [one["Id"] for one in answered(client.get(f"/api/{path}"))]

    assert answered(client.get("/api/item/t1/neighbors?n=1&offset=1")) == [{"Id": "t8", "Score": 0.5}]
    assert ids("item/t1/neighbors/rock?n=1") == ["t9"]
    assert ids("popular?n=2") == ["t0", "t1"]
    assert ids("popular/Rock?n=2&offset=1") == ["t3", "t5"]
    assert ids("popular/?n=2&user-id=alice") == ["t1", "t2"]
    assert ids("latest?n=2&user-id=alice") == ["t18", "t17"]
    assert len(ids("latest/pop?n=100")) == 10


def test_a_session_is_recommended_what_is_similar(client: TestClient, gateway: FakeGateway) -> None:
    gateway.graph = {1: [(9, 0.9), (8, 0.5)], 2: [(8, 0.6), (1, 0.9)], 4: [(10, 9.0)]}
    session = [
        {"FeedbackType": kind, "ItemId": item} for kind, item in (("read", "t1"), ("star", "t2"), ("hate", "t4"))
    ]
    best = answered(client.post("/api/session/recommend?n=2", json=session))
    assert [one["Id"] for one in best] == ["t8", "t9"]
    assert best[0]["Score"] == pytest.approx(1.1)
    assert "t9" in str(answered(client.post("/api/session/recommend/rock?n=1", json=session)))
    assert answered(client.post("/api/session/recommend", json=[])) == []


def test_kafka_away_is_said(client: TestClient, gateway: FakeGateway) -> None:
    gateway.rpc.refusing = True
    for answer in (client.get("/api/recommend/alice"), client.post("/api/item", json={"ItemId": "new"})):
        assert "Kafka" in refused(answer, 503)
        assert answer.headers["Retry-After"] == "1"
