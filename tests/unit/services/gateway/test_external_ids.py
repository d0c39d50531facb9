"""External ids in Botify's REST API."""

from typing import Any
from urllib.parse import quote

import pytest
from starlette.testclient import TestClient

from botify.schemas import external_ids
from botify.schemas.events import NAMED
from botify.schemas.external_ids import NEWCOMERS_FROM, UserIds
from botify.services.gateway import sessions
from botify.streams.folds.users import HISTORY_LISTENS
from tests.unit.services.gateway.fakes import FakeGateway, serving


@pytest.fixture
def gateway() -> FakeGateway:
    """A gateway of tracks t0, t1, ..., but for track 3, which is called 7."""
    return FakeGateway().with_tracks(lambda number: {"external_id": "7" if number == 3 else f"t{number}"})


def hear(client: TestClient, name: str, track: int | str = "t8", **headers: str) -> Any:
    """Report a listen of a listener, and return the answer."""
    return client.post(f"/next/{quote(name)}", json={"track": track, "time": 0.3}, headers=headers)


@pytest.mark.parametrize(("track", "number"), [("t8", 8), (8, 8), ("7", 3), (7, 7)])
def test_a_string_is_an_external_id(gateway: FakeGateway, client: TestClient, track: int | str, number: int) -> None:
    assert hear(client, "42", track).json() == {"user": 42, "track": number + 1, "external_id": f"t{number + 1}"}
    assert [listen.track for listen in gateway.rpc.listens] == [number]


@pytest.mark.parametrize(("path", "number"), [("t8", 8), ("8", 8), ("7", 7), ('"7"', 3)])
def test_digits_in_a_path_are_a_number_and_in_quotes_an_external_id(client: TestClient, path: str, number: int) -> None:
    track = client.get(f"/track/{path}").json()
    assert (track["track"], track["external_id"]) == (number, "7" if number == 3 else f"t{number}")


def test_an_external_id_that_no_track_has_is_refused(gateway: FakeGateway, client: TestClient) -> None:
    response = hear(client, "42", "nothing")
    wrong = {"type": "unknown_track", "loc": ["body", "track"], "msg": "there is no track 'nothing'"}
    assert (response.status_code, response.json()["detail"]) == (422, [wrong])
    assert client.get("/track/nothing").status_code == 404
    assert gateway.rpc.listens == []


def test_a_retry_by_the_other_name_counts_once(gateway: FakeGateway, client: TestClient) -> None:
    for track in ("t8", 8):
        answer = hear(client, "42", track, **{"Idempotency-Key": "one"}).json()
        assert answer == {"user": 42, "track": 9, "external_id": "t9"}
    assert len(gateway.rpc.listens) == 1


@pytest.mark.parametrize("name", ["alice", "a/b", "5d1c0c2e-7b1f-4b8e-9d3a-0e3a4f6b2c11", "-1", "a\nb"])
def test_without_a_dataset_a_user_has_a_name_too(gateway: FakeGateway, client: TestClient, name: str) -> None:
    assert hear(client, name).json() == {"user": name, "track": 9, "external_id": "t9"}
    assert client.post(f"/last/{quote(name)}", json={"track": "t9", "time": 1}).json() == {"user": name}
    assert {listen.user for listen in gateway.rpc.listens} == {UserIds().number_of(name)}


def test_with_a_dataset_a_newcomer_gets_a_number_that_none_has(gateway: FakeGateway) -> None:
    with serving(gateway, users=UserIds(["alice", "7", "a/b"])) as client:
        for name in ("alice", "7", "a/b", "bob"):
            assert hear(client, name).json() == {"user": name, "track": 9, "external_id": "t9"}
            assert client.post(f"/last/{name}", json={"track": "t9", "time": 1}).json() == {"user": name}
    numbers = [listen.user for listen in gateway.rpc.listens]
    assert numbers[:6] == [0, 0, 1, 1, 2, 2]
    assert numbers[6] == numbers[7] >= NEWCOMERS_FROM


def told(gateway: FakeGateway) -> list[tuple[str | None, int]]:
    """The names on the topic of feedback, and their numbers."""
    return [(one.name, one.user) for one in gateway.facts() if one.kind == NAMED]


def test_a_name_is_told_once_and_not_by_who_only_asks(gateway: FakeGateway, client: TestClient) -> None:
    for path in ("alice/recommendations", "alice/erasure", "alice"):
        client.get(f"/v1/users/{path}")
    assert told(gateway) == []
    for name in ("alice", "alice", "7", "bob", "alice"):
        hear(client, name)
        client.post("/v1/events", json={"kind": "like", "user": name, "item": "t2"})
        client.put(f"/v1/users/{name}", json={"likes": ["t1"]})
    too_many = [{"kind": "listen", "user": "eve", "item": "t1"}] * (HISTORY_LISTENS + 1)
    assert client.post("/v1/events", json={"events": too_many}).status_code == 422
    assert told(gateway) == [(name, UserIds().number_of(name)) for name in ("alice", "bob")]
    assert client.delete("/v1/users/alice").status_code == 200
    client.post("/v1/events", json={"kind": "like", "user": "alice", "item": "t2"})
    assert [name for name, _ in told(gateway)] == ["alice", "bob", "alice"]


def test_a_name_is_not_forgotten_where_another_gateway_erased_it(
    gateway: FakeGateway, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    hear(client, "alice")
    gateway.listeners.records.clear()
    monkeypatch.setattr(sessions, "KEPT_S", -1.0)
    gateway.service.names._kept.clear()  # as after a minute
    hear(client, "alice")
    assert [name for name, _ in told(gateway)] == ["alice", "alice"]


@pytest.mark.parametrize("folded", [True, False])
def test_names_of_one_hash_have_numbers_of_their_own(
    gateway: FakeGateway, client: TestClient, monkeypatch: pytest.MonkeyPatch, folded: bool
) -> None:
    monkeypatch.setattr(external_ids, "digest_of", lambda text, at: at)
    if not folded:  # workers are away: the claims decide
        gateway.rpc.fold = lambda _: None
    for name in ("alice", "bob", "alice", "bob"):
        assert hear(client, name).json()["user"] == name
    first, second = NEWCOMERS_FROM, NEWCOMERS_FROM + 1
    assert [listen.user for listen in gateway.rpc.listens] == [first, second, first, second]
    assert told(gateway) == [("alice", first), ("bob", second)]
    client.delete("/v1/users/alice")
    assert [hear(client, name).status_code for name in ("bob", "carol", "dave", "eve")] == [200, 200, 200, 422]
    numbers = [listen.user for listen in gateway.rpc.listens[4:]]
    assert numbers == [second, first, NEWCOMERS_FROM + 2], "bob keeps his, and carol gets the one that became free"
