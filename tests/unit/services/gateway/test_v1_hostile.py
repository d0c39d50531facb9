"""What nobody should send to `/v1` is refused as a problem that names the place, and nothing of it is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from botify.schemas.external_ids import UserIds
from botify.schemas.validation import MAX_TRACK, MAX_USER
from botify.services.gateway.operations import PROBLEM_JSON
from botify.services.gateway.options import Bounds
from botify.services.gateway.v1.models import MAX_EVENTS, MAX_EXCLUDED
from tests.unit.services.gateway.fakes import FakeGateway, serving

JSON = {"Content-Type": "application/json"}
LISTEN = b'{"kind": "listen", "user": 42, "item": 7, "fraction": %s}'
LONG = "x" * 201


@pytest.fixture
def gateway() -> FakeGateway:
    return FakeGateway()


@pytest.fixture
def client(gateway: FakeGateway) -> Iterator[TestClient]:
    with serving(gateway, users=UserIds()) as client:
        yield client


def problem_in(answer: Any, *statuses: int) -> dict[str, Any]:
    assert answer.status_code in statuses, answer.text
    assert answer.headers["content-type"] == PROBLEM_JSON
    body: dict[str, Any] = answer.json()
    assert body["status"] == answer.status_code
    return body


def assert_nothing_was_published(gateway: FakeGateway) -> None:
    assert (gateway.rpc.listens, gateway.rpc.published, gateway.listeners.records) == ([], [], {})


@pytest.mark.parametrize(
    ("method", "path", "body", "pointer"),
    [
        ("POST", "events", LISTEN % b"NaN", "/body/fraction"),
        ("POST", "events", LISTEN % b"-Infinity", "/body/fraction"),
        ("POST", "events", LISTEN % b"1e999", "/body/fraction"),
        ("POST", "events", LISTEN % b"1.0000000000000002", "/body/fraction"),
        ("POST", "events", LISTEN % b"-0.1", "/body/fraction"),
        ("POST", "events", LISTEN % b"true", "/body/fraction"),
        ("POST", "events", LISTEN % b'"1"', "/body/fraction"),
        ("POST", "events", LISTEN % b'"\\ud800"', "/body"),
        ("POST", "events", b'{"kind": "listen", "user": -1, "item": 7}', "/body/events/0/user"),
        ("POST", "events", b'{"kind": "listen", "user": %d, "item": 7}' % (MAX_USER + 1), "/body/events/0/user"),
        ("POST", "events", b'{"kind": "listen", "user": 1e300, "item": 7}', "/body/events/0/user"),
        ("POST", "events", b'{"kind": "listen", "user": "", "item": 7}', "/body/user/constrained-str"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": -7}', "/body/item"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": %d}' % 2**63, "/body/item"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": ""}', "/body/events/0/item"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": [7]}', "/body/item"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": "%s"}' % (b"x" * 10_000), "/body/events/0/item"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "time": 0}', "/body/time"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "time": "0000-01-01T00:00:00Z"}', "/body/time"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "time": "1970-01-01T00:00:00"}', "/body/time"),
        (
            "POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "time": "1969-12-31T23:59:59Z"}',
            "/body/events/0/time",
        ),
        (
            "POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "time": "9999-12-31T23:59:59-23:59"}',
            "/body/events/0/time",
        ),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "id": "%s"}' % LONG.encode(), "/body/id"),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "session": ""}', "/body/session"),
        ("POST", "events", b'{"kind": "like\\u0000", "user": 42, "item": 7}', "/body/kind"),
        (
            "POST", "events", b'{"kind": "unlike", "user": 42, "item": 7, "ends_session": true}',
            "/body/events/0/fraction",
        ),
        ("POST", "events", b'{"kind": "listen", "user": 42, "item": 7, "ends_session": 1}', "/body/ends_session"),
        ("POST", "events", b'{"events": [{"kind": "like", "user": 42, "item": 7}, null]}', "/body/events/1"),
        ("POST", "events", b'{"events": {"0": {"kind": "like", "user": 42, "item": 7}}}', "/body/events"),
        ("POST", "events", b"[]", "/body"),
        ("POST", "events", b"null", "/body"),
        ("POST", "events", b"", "/body"),
        ("PUT", "items/7", b'{"title": "", "artist": "a"}', "/body/title"),
        ("PUT", "items/7", b'{"title": "t", "artist": "a", "year": 10000}', "/body/year"),
        ("PUT", "items/7", b'{"title": "t", "artist": "a", "genres": [""]}', "/body/genres/0"),
        ("PUT", "items/7", b'{"title": "t", "artist": "a", "deleted": true}', "/body/deleted"),
        ("PUT", "users/42", b'{"likes": 7}', "/body/likes"),
        ("PUT", "users/42", b'{"likes": [7, true]}', "/body/likes/1"),
        ("PUT", "users/42", b'{"likes": [7], "dislikes": [7]}', "/body/dislikes/0"),
        ("PUT", "users/42", b'{"likes": [%d]}' % (MAX_TRACK + 1), "/body/likes/0"),
    ],
)  # fmt: skip
def test_a_hostile_body_is_refused_by_the_name_of_its_field(
    client: TestClient, gateway: FakeGateway, method: str, path: str, body: bytes, pointer: str
) -> None:
    answer = client.request(method, f"/v1/{path}", content=body, headers=JSON)
    errors = problem_in(answer, 422)["errors"]
    assert pointer in [error["pointer"] for error in errors]
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize("path", ["events", "items/7", "users/42"])
@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * 10_000, b'{"a":' * 3_000, b"\x00", b"{}" * 2, b"1" * 5_000, b'"\\ud800"']
)
def test_what_is_no_json_is_refused(client: TestClient, gateway: FakeGateway, path: str, body: bytes) -> None:
    method = "POST" if path == "events" else "PUT"
    problem_in(client.request(method, f"/v1/{path}", content=body, headers=JSON), 400, 422)
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("users/-1", (404,)),
        (f"users/{MAX_USER + 1}", (404,)),
        ("users/%00", (404,)),
        ("users/%F0%9F%8E%B5", (404,)),
        ("users/%D9%A3", (404,)),  # a digit, but not one of ASCII
        ("users/%FF%FE", (422,)),  # not UTF-8
        ("users/..%2F..%2Fetc%2Fpasswd", (404,)),
        (f"users/{LONG}", (422,)),
        ("users/", (422,)),
        ("users//recommendations", (422,)),
        ("users/{user}/recommendations", (404,)),
        ("users/none/recommendations", (404,)),
        ("items/", (404, 422)),
        ("items/%00", (404,)),
        ("items/%22%22", (404, 422)),
        (f"items/{'9' * 5_000}", (404, 422)),
        (f"items/{MAX_TRACK + 1}", (404, 422)),
        ("items/7/similar/similar", (404,)),
        ("items/7/similar?limit=0", (422,)),
        ("items/7/similar?limit=201", (422,)),
        ("items/7/similar?limit=1e2", (422,)),
        ("items/7/similar?limit=1&limit=2", (422,)),
        ("popular?cursor=-1", (422,)),
        ("popular?cursor=o999999999", (422,)),
        ("popular?cursor=o%D9%A3", (422,)),
        ("popular?half_life=", (422,)),
        ("latest?offset=1", (422,)),
        ("nothing", (404,)),
        ("users/42/recommendations?n=NaN", (422,)),
        ("users/42/recommendations?n=-1", (422,)),
        (f"users/42/recommendations?n={'9' * 5_000}", (422,)),
        ("users/42/recommendations?n=", (422,)),
        ("users/42/recommendations?explain=1", (422,)),
        ("users/42/recommendations?filter=genre:", (422,)),
        ("users/42/recommendations?filter=%00", (422,)),
        (f"users/42/recommendations?filter=genre:{LONG}", (422,)),
        ("users/42/recommendations?" + "&".join(["filter=genre:rock"] * 21), (422,)),
        ("users/42/recommendations?" + "&".join(["exclude=7"] * (MAX_EXCLUDED + 1)), (422,)),
        (f"users/42/recommendations?session={LONG}{LONG}", (422,)),
        ("users/42/recommendations?session=", (422,)),
    ],
)
def test_a_hostile_path_or_parameter_is_refused(
    client: TestClient, gateway: FakeGateway, path: str, statuses: tuple[int, ...]
) -> None:
    problem_in(client.get(f"/v1/{path}"), *statuses)
    assert gateway.rpc.requests == []
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize(
    "query",
    [
        "exclude=%00",
        "exclude=" + "," * 5_000,
        "exclude=" + ",".join(["9" * 400] * 50),
        "exclude=%22%22",
        "filter=genre:%00",
        "filter=genre:" + "%F0%9F%8E%B5" * 40,
        "filter=genre:.*&filter=genre:)(",
        "session=%00",
        "session=%F0%9F%8E%B5",
    ],
)
def test_strange_text_of_the_right_form_is_text(client: TestClient, query: str) -> None:
    answer = client.get(f"/v1/users/42/recommendations?{query}")
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["items"]) == 10


def test_a_batch_that_is_too_long_is_refused_whole(gateway: FakeGateway) -> None:
    like = {"kind": "like", "user": 42, "item": 7}
    with serving(gateway, bounds=Bounds(batch_bytes=2**20)) as client:
        errors = problem_in(client.post("/v1/events", json={"events": [like] * (MAX_EVENTS + 1)}), 422)["errors"]
        assert [error["pointer"] for error in errors] == ["/body/events"]
        problem_in(client.post("/v1/events", json={"events": [{**like, "id": "x" * 190}] * 9_000}), 413)
        wrong = [like, {**like, "item": "none"}]
        problem_in(client.post("/v1/events", json={"events": wrong}), 422)
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize("media_type", ["text/plain", "application/x-www-form-urlencoded", "json", ""])
def test_a_body_that_is_not_declared_as_json_is_refused(
    client: TestClient, gateway: FakeGateway, media_type: str
) -> None:
    body = json.dumps({"kind": "like", "user": 42, "item": 7})
    answer = client.post("/v1/events", content=body, headers={"Content-Type": media_type})
    assert [error["pointer"] for error in problem_in(answer, 422)["errors"]] == ["/body"]
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize("key", ["", "\x7f", "x" * 1_000])
def test_a_key_that_cannot_be_used_is_refused(client: TestClient, gateway: FakeGateway, key: str) -> None:
    event = {"kind": "listen", "user": 42, "item": 7}
    problem_in(client.post("/v1/events", json=event, headers={"Idempotency-Key": key}), 400)
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "users/42"), ("POST", "items/7"), ("PUT", "events"), ("DELETE", "popular")]
)
def test_a_method_that_is_not_there_is_refused(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/v1/{path}")
    problem_in(answer, 405)
    assert answer.headers["allow"]
