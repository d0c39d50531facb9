"""`/v1` as a client sees it."""

import math
import random
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from botify.schemas.events import Track
from botify.schemas.external_ids import UserIds
from botify.services.gateway.v1 import recommending, users
from botify.services.gateway.v1.feedback_file import Kind, Kinds
from botify.services.gateway.v1.models import Recommendations
from botify.services.gateway.v1.users import KEPT_MS, Erasures
from botify.streams.dlq.exclude import ErasureError
from botify.streams.folds.users import HISTORY_LISTENS, UserState
from tests.support import eventually
from tests.unit.services.gateway.fakes import CODEC, NOW_MS, POPULAR, TRACKS, FakeGateway, problem_in, serving
from tests.unit.services.recommender.recommending import state_of

FOR_ALICE = "/v1/users/alice/recommendations"


@pytest.fixture
def gateway() -> FakeGateway:
    """A gateway of tracks t0, t1, … of pop and rock by turns."""
    genres = ("pop", "rock")
    return FakeGateway().with_tracks(lambda number: {"external_id": f"t{number}", "genre": genres[number % 2]})


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[TestClient]:
    with serving(gateway, users=UserIds(["alice", "bob"])) as client:
        yield client


def items(response: Any) -> list[str]:
    assert response.status_code == 200, response.text
    return [item["item"] for item in response.json()["items"]]


def pointers(response: Any) -> list[str]:
    return [error["pointer"] for error in problem_in(response, 422)["errors"]]


def slate_of(gateway: FakeGateway) -> Any:
    """What was asked of the recommender last."""
    return gateway.rpc.requests[-1].slate


def tell(client: TestClient, *events: dict[str, Any]) -> list[str]:
    """Send events, and return their ids."""
    answer = client.post("/v1/events", json={"events": events})
    assert answer.status_code == 200, answer.text
    return answer.json()["ids"]  # type: ignore[no-any-return]


def test_recommendations_without_a_listen(client: TestClient, gateway: FakeGateway) -> None:
    answer = client.get(f"{FOR_ALICE}?n=3")
    assert items(answer) == ["t0", "t1", "t2"]
    body = answer.json()
    assert (body["user"], body["policy"], body["propensity"], body["fallback"]) == ("alice", "next_track", 0.125, False)
    assert gateway.rpc.listens == []
    assert [(request.user, request.has_listen) for request in gateway.rpc.requests] == [(0, False)]


@pytest.mark.parametrize("explain", ["true", "false"])
def test_an_answer_is_its_model(client: TestClient, gateway: FakeGateway, explain: str) -> None:
    """It is written without the model, which documents it: the same fields, and nothing that is null."""
    gateway.catalogue.put([Track(1, "A", "album", "rock", "T", "t1", ["rock", "pop"], "calm", 1999, "FI")])
    answer = client.get(f"{FOR_ALICE}?n=3&explain={explain}")
    items(answer)
    model = Recommendations.model_validate_json(answer.content, strict=True, extra="forbid")
    assert model.model_dump_json(exclude_none=True) == answer.text
    assert model.items[1].genres == ["rock", "pop"]


def test_a_track_that_is_put_again_is_shown_as_it_is_now(client: TestClient, gateway: FakeGateway) -> None:
    client.get(f"{FOR_ALICE}?n=3")
    gateway.catalogue.added[1] = Track(1, "artist", None, None, "renamed", "t1")
    client.portal.call(gateway.service.tracks.refresh)  # type: ignore[union-attr]
    answer = client.get(f"{FOR_ALICE}?n=3").json()
    assert [item["title"] for item in answer["items"]] == ["track 0", "renamed", "track 2"]


def test_what_is_asked_reaches_the_recommender(client: TestClient, gateway: FakeGateway) -> None:
    parameters = "n=2&exclude=t0,t1&exclude=t2&exclude=unknown&session=s1"
    parameters += "&filter=genre!:rock&filter=year%3E%3D2010&cap=artist:1&cap=genre:3"
    assert items(client.get(f"{FOR_ALICE}?{parameters}")) == ["t3", "t4"]
    assert gateway.rpc.requests[0].session_id == "s1"
    empty = "liked", "liked_ms", "liked_weights", "shown", "shown_since_ms", "shown_ms", "impressions", "impressions_ms"
    assert slate_of(gateway) == {
        "size": 2, "without_listen": True, "exclude": [0, 1, 2], "filters": ["genre!:rock", "year>=2010"],
        "explain": False, "caps": {"artist": 1, "genre": 3}, "rules": [], **{name: [] for name in empty},
    }  # fmt: skip


def test_a_reason_has_policy_score_model_version_and_what_was_heard(client: TestClient) -> None:
    reason = client.get(f"{FOR_ALICE}?n=1&explain=true").json()["items"][0]["reason"]
    assert reason.pop("because")["item"] == "t1"
    assert reason == {
        "policy": "next_track", "score": 0.0, "text": "because you heard track 1 by artist 0",
        "features": {"same_artist": True, "same_genre": False}, "model_versions": {"next_track": 17},
    }  # fmt: skip


def test_a_late_recommender_is_replaced_by_what_is_popular(client: TestClient, gateway: FakeGateway) -> None:
    gateway.rpc.silent = True
    answer = client.get(f"{FOR_ALICE}?n=2")
    assert sorted(items(answer)) == [f"t{track}" for track in POPULAR]
    body = answer.json()
    assert (body["fallback"], body["policy"], body["propensity"]) == (True, "gateway-popular", 0.5)
    explained = client.get(f"{FOR_ALICE}?n=4&explain=true").json()["items"]
    texts = [item["reason"]["text"] for item in explained]
    assert texts == ["popular now", "popular now", "explored at random", "explored at random"]
    assert [round(item["propensity"], 3) for item in explained] == [0.5, 1.0, round(1 / 18, 3), round(1 / 17, 3)]
    rock = items(client.get(f"{FOR_ALICE}?filter=genre:rock&n=20"))
    assert (rock[0], sorted(rock)) == ("t3", sorted(f"t{track}" for track in range(1, TRACKS, 2)))
    assert items(client.get(f"{FOR_ALICE}?filter=genre!:rock&n=1")) == ["t4"]
    assert "botify_gateway_fallbacks_total 4.0" in client.get("/metrics").text


def test_a_fallback_looks_at_some_tracks_of_a_large_catalogue(
    client: TestClient, gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommending, "LOOKED_AT", 4)
    gateway.rpc.silent = True
    answer = client.get(f"{FOR_ALICE}?n=20").json()
    others = [item["propensity"] for item in answer["items"][len(POPULAR) :]]
    assert 0 < len(others) <= 4
    assert 1 / TRACKS <= others[0] <= 4 / TRACKS  # as if what it looked at were typical of all


def test_rules_reach_the_recommender_and_block_without_it(client: TestClient, gateway: FakeGateway) -> None:
    gateway.rules = [
        {"tracks": [3], "filters": [], "boost": 0.0, "place": None},
        {"tracks": [5], "filters": [], "boost": 1.0, "place": 0},
    ]
    client.get(FOR_ALICE)
    assert slate_of(gateway)["rules"] == gateway.rules
    gateway.rpc.silent = True
    assert items(client.get(f"{FOR_ALICE}?n=1")) == ["t4"]
    assert "t3" not in items(client.get(f"{FOR_ALICE}?n=20"))
    gateway.rules.append({"tracks": [], "filters": ["genre:pop"], "boost": 0.0, "place": None})
    found = items(client.get(f"{FOR_ALICE}?n=20"))
    assert sorted(found) == sorted(f"t{track}" for track in range(TRACKS) if track % 2 and track != 3)


def test_pages_of_a_session_do_not_repeat(client: TestClient) -> None:
    page = f"{FOR_ALICE}?n=6&exclude_shown=session&session="
    pages = [items(client.get(page + session)) for session in ("s1", "s1", "s2", "s1", "s1")]
    assert pages[0] == pages[2] == [f"t{track}" for track in range(6)]
    assert pages[0] + pages[1] + pages[3] + pages[4] == [f"t{track}" for track in range(TRACKS)]


def test_rows_have_titles_causes_and_nothing_twice(client: TestClient, gateway: FakeGateway) -> None:
    assert client.get("/v1/users/alice/rows").json() == {"user": "alice", "rows": []}
    gateway.similar = {1: [(2, 1.0), (4, 0.5), (5, 0.5), (7, 0.1)], 3: [(4, 1.0), (5, 0.5)]}
    gateway.reader.states[0] = state_of([(1, 0.9), (6, 0.1)])
    tell(client, *({"kind": kind, "user": "alice", "item": item} for kind, item in (("like", "t3"), ("dislike", "t5"))))
    gateway.rules = [{"tracks": [2], "filters": [], "boost": 0.0, "place": None}]
    rows = client.get("/v1/users/alice/rows?rows=3&n=2").json()["rows"]
    assert [row["title"] for row in rows] == [
        "because you liked track 3 by artist 0", "because you heard track 1 by artist 0", "popular in rock",
    ]  # fmt: skip
    assert [row.get("because", {}).get("item") for row in rows] == ["t3", "t1", None]
    found = [[item["item"] for item in row["items"]] for row in rows]
    assert (found[0][0], found[1][0]) == ("t4", "t7")
    everything = [item for row in found for item in row]
    assert len(everything) == len(set(everything)) == 6
    assert {"t1", "t2", "t3", "t5", "t6"}.isdisjoint(everything)
    assert len(client.get("/v1/users/alice/rows?rows=1&n=2").json()["rows"]) == 1


def test_a_group_gets_what_suits_all_and_nothing_that_one_dislikes(client: TestClient, gateway: FakeGateway) -> None:
    tell(client, *({"kind": "dislike", "user": user, "item": item} for user, item in (("alice", "t0"), ("bob", "t2"))))
    body = {"users": ["alice", "bob", "alice"], "n": 3, "exclude": ["t4"], "filter": ["genre:pop"]}
    answer = client.post("/v1/groups/recommendations", json=body)
    assert (items(answer), answer.json()["users"]) == (["t1", "t3", "t5"], ["alice", "bob"])
    assert not answer.json()["fallback"]
    assert {(one.user, (one.slate or {})["size"]) for one in gateway.rpc.requests} == {(0, 12), (1, 12)}
    assert [set((one.slate or {})["exclude"]) for one in gateway.rpc.requests] == [{0, 2, 4}] * 2
    assert gateway.listeners.shown_slates == {}, "no listen is attributed to what has no propensity"
    gateway.rpc.silent = True
    assert client.post("/v1/groups/recommendations", json={"users": ["bob"]}).json()["fallback"]


def test_a_session_needs_no_account(gateway: FakeGateway) -> None:
    """Whatever names the session is a listener, until it is erased; a new name's candidates are read once a call."""
    with serving(gateway) as client:
        tell(client, *({"kind": "listen", "user": "visit-7f3a", "item": number} for number in (1, 2)))
        assert len(gateway.listeners.looked_up) == len(set(gateway.listeners.looked_up)) > 0
        assert [listen.position for listen in gateway.rpc.listens] == [0, 1]
        (user,) = {listen.user for listen in gateway.rpc.listens}
        client.get("/v1/users/visit-7f3a/recommendations")
        assert gateway.rpc.requests[-1].user == user
        assert client.delete("/v1/users/visit-7f3a").status_code == 200
        assert gateway.reader.erased == [user]


def test_a_listen_of_a_recommended_item_has_its_propensity(client: TestClient, gateway: FakeGateway) -> None:
    client.get(f"{FOR_ALICE}?n=3")
    for item in ("t1", "t9"):
        tell(client, {"kind": "listen", "user": "alice", "item": item, "fraction": 0.8})
    followed, own = gateway.rpc.listens
    assert (followed.track, followed.fraction, followed.recommender, followed.propensity) == (1, 0.8, "next_track", 0.5)
    assert followed.treatments == {"A": "T1"}
    assert (own.track, own.recommender, own.session_id, own.position) == (9, None, followed.session_id, 1)


def test_a_batch_of_all_kinds(client: TestClient, gateway: FakeGateway) -> None:
    ids = tell(
        client,
        {"kind": "listen", "user": "alice", "item": "t1"},
        {"kind": "skip", "user": "alice", "item": "t2", "ends_session": True},
        {"kind": "like", "user": "bob", "item": "t3"},
        {"kind": "dislike", "user": "bob", "item": "t4"},
    )
    assert len(set(ids)) == 4
    assert [(one.user, one.track, one.fraction, one.ended_session) for one in gateway.rpc.listens] == [
        (0, 1, 1.0, False), (0, 2, 0.0, True),
    ]  # fmt: skip
    assert [(one.user, one.track, one.kind) for one in gateway.facts()] == [(1, 3, "like"), (1, 4, "dislike")]
    client.get("/v1/users/bob/recommendations")
    assert (slate_of(gateway)["liked"], slate_of(gateway)["exclude"]) == ([3], [4, 3])
    client.post("/v1/events", json={"kind": "unlike", "user": "bob", "item": "t4"})
    body = client.get("/v1/users/bob").json()
    assert (body["likes"], body["dislikes"]) == (["t3"], [])


def test_backfill_has_its_own_times_and_sessions(client: TestClient, gateway: FakeGateway) -> None:
    times = ["1970-01-01T00:00:01Z", "1970-01-01T00:10:00Z"]
    told = [{"kind": "listen", "user": "alice", "item": "t1", "time": time, "id": time} for time in times]
    told.append({"kind": "listen", "user": "alice", "item": "t2", "session": "mine"})
    assert tell(client, *told)[:2] == tell(client, *told)[:2]
    heard = gateway.rpc.listens
    assert [one.timestamp_ms for one in heard[:3]] == [1_000, 600_000, NOW_MS]
    assert [one.position for one in heard[:3]] == [0, 1, 0]
    assert heard[0].session_id == heard[1].session_id
    assert heard[2].session_id == "mine"
    assert gateway.sessions.of_users == {}


def test_a_retry_with_a_key_counts_once(client: TestClient, gateway: FakeGateway) -> None:
    told = {"kind": "listen", "user": "alice", "item": "t1"}
    first, again = (client.post("/v1/events", json=told, headers={"Idempotency-Key": "k1"}) for _ in range(2))
    assert first.json() == again.json()
    assert len(gateway.rpc.listens) == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_that_is_sent_again_in_parts_counts_once(client: TestClient, gateway: FakeGateway, seed: int) -> None:
    draw = random.Random(seed)
    told = [
        {"kind": draw.choice(["listen", "skip"]), "user": user, "item": f"t{at % TRACKS}", "id": f"{user}{at}"}
        | draw.choice([{}, {"time": "1970-01-01T00:00:01Z"}, {"session": "mine"}])
        for user, count in (("alice", HISTORY_LISTENS), ("bob", draw.randrange(1, HISTORY_LISTENS + 1)))
        for at in range(count)
    ]  # fmt: skip
    draw.shuffle(told)
    for size in (draw.randrange(len(told)), len(told), draw.randrange(len(told)), len(told), len(told)):
        tell(client, *([told[at] for at in sorted(draw.sample(range(len(told)), size))] or told))
    states: dict[int, UserState] = {}
    for listen in gateway.rpc.listens:  # which workers fold
        states.setdefault(listen.user, UserState()).fold(listen)
    assert sum(state.listens for state in states.values()) == len(told)
    assert len(gateway.rpc.listens) > len(told)

    one_more = [{"kind": "listen", "user": "alice", "item": "t1", "id": f"m{at}"} for at in range(HISTORY_LISTENS + 1)]
    gateway.rpc.listens.clear()
    assert pointers(client.post("/v1/events", json={"events": one_more})) == [f"/body/events/{HISTORY_LISTENS}/user"]
    assert gateway.rpc.listens == []
    tell(client, *(one | {"kind": "like"} for one in one_more))


def test_errors_are_problems(client: TestClient, gateway: FakeGateway) -> None:
    assert problem_in(client.get("/v1/items/none"), 404)["detail"] == "there is no item 'none'"
    gateway.rpc.refusing = True
    assert problem_in(client.get(FOR_ALICE), 503)["title"] == "Service Unavailable"
    assert client.get("/track/none").headers["content-type"] == "application/json"


def test_similar_items_are_neighbours_then_those_of_artist_and_genre(client: TestClient, gateway: FakeGateway) -> None:
    gateway.similar = {1: [(9, 0.9), (8, 0.5)]}
    found = items(client.get("/v1/items/t1/similar?limit=100"))
    assert found[:2] == ["t9", "t8"]
    assert "t1" not in found
    assert len(found) == len(set(found))


def test_items_that_nobody_heard_are_similar_by_their_content(client: TestClient, gateway: FakeGateway) -> None:
    for name, vector in (("one", [1, 0, 0.5]), ("two", [2, 0, 1]), ("three", [-1, 0, -0.5])):
        put = client.put(f"/v1/items/{name}", json={"title": name, "artist": name, "vector": vector})
        assert "vector" not in put.json()
        gateway.catalogue.put([CODEC.decode(gateway.rpc.published[-1][1], Track)])
    assert items(client.get("/v1/items/one/similar")) == ["two"]
    gateway.similar = {TRACKS: [(9, 0.9)]}
    assert items(client.get("/v1/items/one/similar")) == ["t9"]  # once it was heard, that says more


def test_pages_follow_each_other(client: TestClient) -> None:
    found, query = list[str](), "limit=7"
    while query:
        answer = client.get(f"/v1/latest?{query}")
        found += items(answer)
        query = f"limit=7&cursor={answer.json()['next']}" if "next" in answer.json() else ""
    assert found == [f"t{number}" for number in range(TRACKS - 1, -1, -1)]


def test_an_item_is_put_and_deleted(client: TestClient, gateway: FakeGateway) -> None:
    body = {"title": "New", "artist": "N", "genres": ["rock", "pop"], "year": 1999}
    put = client.put("/v1/items/new/one", json=body)
    assert put.json() == {"item": "new/one", "number": TRACKS, "genre": "rock", **body}
    (published,) = [CODEC.decode(value, Track) for topic, value in gateway.rpc.published if topic == "catalogue"]
    gateway.catalogue.put([published])
    assert client.get("/v1/items/new/one").json() == put.json()
    assert client.delete("/v1/items/new/one").json() == put.json()
    gone = CODEC.decode(gateway.rpc.published[-1][1], Track)
    assert gone == published._replace(deleted=True)
    gateway.catalogue.put([gone])
    problem_in(client.get("/v1/items/new/one"), 404)
    problem_in(client.delete("/v1/items/new/one"), 404)
    assert "new/one" not in items(client.get("/v1/latest?limit=200"))


def test_a_listener_is_read_and_erased(client: TestClient, gateway: FakeGateway) -> None:
    gateway.reader.states[0] = state_of([(7, 0.5), (8, 1.0)])
    tell(client, {"kind": "like", "user": "alice", "item": "t7"})
    body = client.get("/v1/users/alice").json()
    assert (body["listens"], body["likes"]) == (2, ["t7"])
    assert [(one["item"], one["fraction"]) for one in body["last_listens"]] == [("t8", 1.0), ("t7", 0.5)]
    assert client.delete("/v1/users/alice").json() == {"user": "alice", "listens": 3}
    assert gateway.reader.erased == [0]
    problem_in(client.get("/v1/users/alice"), 404)


def test_a_put_replaces_opinions_and_tells_the_differences(client: TestClient, gateway: FakeGateway) -> None:
    gateway.reader.states[0] = state_of([(7, 0.5)])
    for kind, item in (("like", "t7"), ("dislike", "t8"), ("like", "t9")):
        tell(client, {"kind": kind, "user": "alice", "item": item})
    gateway.rpc.published.clear()
    opinions = {"likes": ["t9", "t8", "t3"], "dislikes": ["t2"]}
    put = client.put("/v1/users/alice", json=opinions).json()
    assert {"likes": put["likes"], "dislikes": put["dislikes"]} == opinions
    assert put["listens"] == 1  # what was heard stays
    assert client.get("/v1/users/alice").json() == put
    put_facts = gateway.facts()
    assert [(fact.track, fact.kind) for fact in put_facts] == [(7, "unlike"), (8, "like"), (3, "like"), (2, "dislike")]
    assert len({fact.event_id for fact in put_facts}) == 4
    assert min(fact.timestamp_ms for fact in put_facts) > NOW_MS  # newer than all that was said
    assert client.put("/v1/users/alice", json=opinions).json() == put
    assert len(gateway.rpc.published) == 4  # a copy tells nothing
    client.get(FOR_ALICE)
    assert (slate_of(gateway)["exclude"], slate_of(gateway)["liked"]) == ([2, 3, 8, 9], [9, 8, 3])
    nothing = client.put("/v1/users/alice", json={}).json()
    assert (nothing["likes"], nothing["dislikes"]) == ([], [])


def test_attributes_of_a_listener_are_put_apart_from_what_they_like(client: TestClient, gateway: FakeGateway) -> None:
    tell(client, {"kind": "like", "user": "alice", "item": "t7"})
    german, austrian = {"country": "de", "platform": "tv"}, {"country": "at"}
    for attributes in (german, austrian):
        put = client.put("/v1/users/alice", json={"attributes": attributes}).json()
        assert (put["likes"], put["attributes"]) == (["t7"], attributes)
    again = client.put("/v1/users/alice", json={"likes": ["t8"]}).json()
    assert (again["likes"], again["attributes"]) == (["t8"], austrian)
    both = client.put("/v1/users/alice", json={"likes": [], "attributes": german}).json()
    assert (both["likes"], both["attributes"]) == ([], german)
    assert client.get("/v1/users/alice").json() == both
    times_ms = [fact.timestamp_ms for fact in gateway.facts() if fact.attributes is not None]
    assert times_ms == sorted(set(times_ms)), "so the topic's fold has the last one, whatever the clock says"
    client.delete("/v1/users/alice")
    problem_in(client.get("/v1/users/alice"), 404)


def test_kinds_of_ones_own_are_told_read_and_withdrawn(gateway: FakeGateway) -> None:
    own = {"save": Kind("positive", 0.5), "purchase": Kind("positive", exclude_ms=math.inf), "see": Kind("nothing")}
    gateway.kinds = Kinds({**gateway.kinds.declared, **own})
    with serving(gateway) as client:

        def say(kind: str, item: str) -> Any:
            return client.post("/v1/events", json={"kind": kind, "user": "carol", "item": item})

        for kind, item in (("like", "t1"), ("save", "t1"), ("save", "t2"), ("purchase", "t3"), ("see", "t4")):
            assert say(kind, item).status_code == 200
        body = client.get("/v1/users/carol").json()
        assert (body["likes"], body["said"]) == (["t1"], {"save": ["t1", "t2"], "purchase": ["t3"], "see": ["t4"]})
        client.get("/v1/users/carol/recommendations")
        slate = slate_of(gateway)
        weights = dict(zip(slate["liked"], slate["liked_weights"], strict=True))
        assert weights == {1: 1.0, 2: 0.5, 3: 1.0}  # of several of a track, the one of most weight
        assert slate["liked_ms"] == [NOW_MS] * 3
        assert sorted(slate["exclude"]) == [1, 3]

        assert say("unlike", "t1").status_code == say("un-purchase", "t3").status_code == 200
        put = client.put("/v1/users/carol", json={"likes": ["t5"]}).json()  # what was said of other kinds stays
        assert (put["likes"], put["said"]) == (["t5"], {"save": ["t1", "t2"], "see": ["t4"]})
        wrong = problem_in(say("share", "t1"), 422)["errors"]
        assert [one["pointer"] for one in wrong] == ["/body/events/0/kind"]
        assert all(kind in wrong[0]["detail"] for kind in ("'share'", "like", "shown", "save", "un-see"))
        with_share = {"kind": "save", "user": "carol", "item": "t1", "fraction": 0.5}
        assert pointers(client.post("/v1/events", json=with_share)) == ["/body/events/0/fraction"]


def test_what_was_shown_reaches_the_recommender_or_is_left_out(client: TestClient, gateway: FakeGateway) -> None:
    def show(items: list[str], second: int) -> Any:
        time = f"1970-01-01T00:{second // 60:02}:{second % 60:02}Z"
        told = {"kind": "shown", "user": "alice", "items": items, "time": time}
        return client.post("/v1/events", json={"events": [told]})

    for second in (100, 200, 300, 300, 400):  # a copy is none
        assert show(["t1", "t2"] if second < 400 else ["t1", "t3"], second).status_code == 200
    assert (len(gateway.rpc.published), gateway.rpc.listens) == (5, [])
    assert items(client.get(f"{FOR_ALICE}?n=2&exclude_shown=11m")) == ["t0", "t2"]  # 660 of 1000 s
    slate = slate_of(gateway)
    assert sorted(zip(slate["shown"], slate["shown_since_ms"], slate["shown_ms"], strict=True)) == [
        (1, 200_000, 400_000), (2, 100_000, 300_000),
    ]  # fmt: skip
    assert sorted(slate["exclude"]) == [1, 3]
    assert pointers(show(["t1", "none"], 1)) == ["/body/events/0/items/1"]


def test_a_put_of_a_listener_is_taken_whole_or_not_at_all(client: TestClient, gateway: FakeGateway) -> None:
    wrong = client.put("/v1/users/bob", json={"likes": ["t1", "unknown"], "dislikes": ["t2", "t1"]})
    assert pointers(wrong) == ["/body/likes/1", "/body/dislikes/1"]
    assert gateway.rpc.published == []
    assert client.put("/v1/users/bob", json={}).json()["listens"] == 0  # of whom nothing is known
    gateway.rpc.refusing = True
    problem_in(client.put("/v1/users/bob", json={"likes": ["t1"]}), 503)


def test_erasures_that_take_long_keep_nobody_waiting(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve at once while the worker is away: two have a thread, the others wait, and other calls are served."""
    go, at_once, most = threading.Event(), [], 0

    def erase(user: int) -> int:
        nonlocal most
        at_once.append(user)
        most = max(most, len(at_once))
        go.wait(30)
        at_once.remove(user)
        return user

    monkeypatch.setattr(users, "QUICK_S", 0.01)
    monkeypatch.setattr(users, "MOST_ERASURES", 12)
    gateway.reader.erase = erase  # type: ignore[method-assign]
    with serving(gateway) as client:
        for user in range(12):
            answer = client.delete(f"/v1/users/{user}")
            assert (answer.status_code, answer.json()["status"]) == (202, "running")
            assert client.get(f"/v1/users/{user}/erasure").json()["status"] == "running"
        more = client.delete("/v1/users/12")
        problem_in(more, 503)
        assert more.headers["retry-after"]
        assert client.delete("/v1/users/3").status_code == 202  # asked again, it is the same erasure
        assert client.get("/v1/latest").status_code == 200
        assert most == users.ERASURES_AT_ONCE
        go.set()
        eventually(lambda: all(client.get(f"/v1/users/{user}/erasure").status_code == 404 for user in range(12)))
        assert client.delete("/v1/users/12").status_code in (200, 202)
        assert most == users.ERASURES_AT_ONCE


class FakeRedis(dict[str, str]):
    """Keys and values, and for how long the last one is kept."""

    kept_ms: int | None = None

    def set(self, key: str, value: str, px: int | None) -> None:
        self[key], self.kept_ms = value, px


def test_listens_are_looked_for_unless_nothing_can_be_left_of_them() -> None:
    redis, in_state, looked, fail = FakeRedis(), set[int](), list[bool](), list[BaseException]()

    def erase(_: int, known: Callable[[], bool]) -> int:
        looked.append(known())
        if fail:
            raise fail.pop()
        return 5

    erasures = Erasures(redis, "botify", in_state.__contains__, erase)
    assert erasures.status(7) is None
    erasures.erase(7)
    in_state.add(7)
    fail.append(KeyboardInterrupt())  # the gateway is killed
    with pytest.raises(KeyboardInterrupt):
        erasures.erase(7)
    assert erasures.status(7).status == "running"  # type: ignore[union-attr]
    assert redis.kept_ms is None
    in_state.discard(7)  # the worker came to the tombstone, and some letters were never written
    fail.append(ErasureError("the worker is away"))
    with pytest.raises(ErasureError):
        Erasures(redis, "botify", in_state.__contains__, erase).erase(7)  # another gateway
    failed = erasures.status(7)
    assert (failed.status, failed.detail) == ("failed", "the worker is away")  # type: ignore[union-attr]
    assert erasures.erase(7) == 5
    done = erasures.status(7)
    assert (done.status, done.listens) == ("done", 5)  # type: ignore[union-attr]
    assert redis.kept_ms == KEPT_MS
    assert erasures.erase(7) == 10  # asked for again, its listens still count
    assert looked == [False, True, True, True, False]
