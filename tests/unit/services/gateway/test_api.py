"""Botify's REST API as a client sees it."""

from contextlib import AsyncExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.services.gateway import Bounds, GatewayOptions
from botify.services.gateway.bootstrap import build_app
from tests.unit.services.gateway.fakes import POPULAR, TRACKS, FakeGateway, serving, wait_until_started

JSON = {"Content-Type": "application/json"}
HEARD = {"track": 7, "time": 0.3}


def fields(response: Any) -> str:
    """Return the names of the wrong fields, with spaces between them."""
    assert response.status_code == 422, response.text
    return " ".join(".".join(error["loc"]) for error in response.json()["detail"])


def test_a_program_is_greeted_and_a_browser_redirected_to_the_docs(client: TestClient) -> None:
    greeting = {"status": "alive", "message": "welcome to botify, the best toy music recommender"}
    assert client.get("/").json() == greeting
    response = client.get("/", headers={"Accept": "text/html,*/*;q=0.8"}, follow_redirects=False)
    assert (response.status_code, response.headers["location"]) == (307, "/docs")
    assert "swagger-ui-bundle.js" in client.get("/docs").text
    assert client.get("/static-offline-docs/swagger-ui-bundle.js").status_code == 200


def test_a_track(client: TestClient) -> None:
    track = client.get("/track/7").json()
    assert (track["track"], track["artist"], track["title"]) == (7, "artist 1", "track 7")
    response = client.get(f"/track/{TRACKS}")
    assert (response.status_code, response.json()) == (404, {"detail": f"there is no track {TRACKS}"})


def test_next_and_last(client: TestClient) -> None:
    response = client.post("/next/42", json=HEARD)
    assert (response.status_code, response.text) == (200, '{"user":42,"track":8}')
    assert "x-botify-fallback" not in response.headers
    assert client.post("/last/42", json={"track": 8, "time": 1}).json() == {"user": 42}
    assert client.post("/next/42", json={"track": 7.0, "time": 1}).json() == {"user": 42, "track": 8}


def test_a_fallback_is_marked_and_counted(gateway: FakeGateway, client: TestClient) -> None:
    gateway.rpc.silent = True
    response = client.post("/next/42", json=HEARD)
    assert response.json()["track"] in POPULAR
    assert response.headers["x-botify-fallback"] == "true"
    assert "botify_gateway_fallbacks_total 1.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        ("/next/", b'{"track": 7, "time": 0.3}', "path.user"),
        ("/next/", b'{"track": -7}', "path.user body.track body.time"),
        ("/next/42", b'{"time": 0.3}', "body.track"),
        *(
            ("/next/42", b'{"track": %s, "time": 0.3}' % track, "body.track")
            for track in (b'"7"', b"true", b"-7", b"20")
        ),
        ("/next/42", b'{"track": 7}', "body.time"),
        *(("/next/42", b'{"track": 7, "time": %s}' % time, "body.time") for time in (b"1.5", b"NaN")),
        ("/next/42", b'{"track": 7, "time": "\\ud800"}', "body"),
        ("/last/42", b'{"track": 7, "time": 1e999}', "body.time"),
        *(("/last/42", body, "body") for body in (b"[]", b"")),
    ],
)
def test_invalid_fields_are_named(client: TestClient, gateway: FakeGateway, path: str, body: bytes, named: str) -> None:
    assert fields(client.post(path, content=body, headers=JSON)) == named
    assert gateway.rpc.listens == []


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b'{"track": 7, "time": 0.3', b"[" * 10_000])
def test_invalid_json_is_refused(client: TestClient, body: bytes) -> None:
    assert client.post("/next/42", content=body, headers=JSON).status_code in (400, 422)


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        *((json, 200) for json in ("application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json")),
        *((other, 422) for other in ("text/plain", "application/x-www-form-urlencoded", "json", "")),
    ],
)
def test_a_body_is_declared_as_json(client: TestClient, media_type: str, status: int) -> None:
    response = client.post("/next/42", content=b'{"track": 7, "time": 0.3}', headers={"Content-Type": media_type})
    assert response.status_code == status
    assert status == 200 or fields(response) == "body"


def test_a_request_without_a_route_is_refused(client: TestClient) -> None:
    assert (client.get("/nothing").status_code, client.get("/nothing").json()) == (404, {"detail": "Not Found"})
    assert client.get("/next/42").json() == {"detail": "Method Not Allowed"}
    assert client.get("/next/42").status_code == client.head("/track/7").status_code == 405


def test_without_kafka_the_client_is_asked_to_retry(gateway: FakeGateway, client: TestClient) -> None:
    gateway.rpc.refusing = True
    for path in ("/next/42", "/last/42"):
        response = client.post(path, json=HEARD)
        assert (response.status_code, response.json()) == (503, {"detail": "Kafka is not reachable"})
        assert int(response.headers["retry-after"]) >= 1


def test_before_it_is_connected_it_is_alive_and_not_ready() -> None:
    async def fail(_: AsyncExitStack) -> Any:
        raise TopicError("no Kafka answers")

    with TestClient(build_app(Settings(), connect=fail)) as client:
        wait_until_started(client)
        assert client.get("/healthz").text == "ok\n"
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()) == (503, {"ready": False, "problems": ["no Kafka answers"]})
        response = client.post("/next/42", json=HEARD)
        assert response.status_code == 503
        assert "no Kafka answers" in response.json()["detail"]
        assert client.get("/track/7").status_code == 503
        assert "botify_gateway_ready 0.0" in client.get("/metrics").text


def test_ready_names_the_problems(gateway: FakeGateway, client: TestClient) -> None:
    assert client.get("/readyz").json() == {"ready": True, "problems": []}
    gateway.found_problems = ["Kafka is not reachable"]
    assert client.get("/readyz").status_code == 503


def test_a_long_body_is_refused(gateway: FakeGateway) -> None:
    long = b'{"track": 7, "time": 0.3, "more": "' + b"x" * 1000 + b'"}'
    with serving(gateway, bounds=Bounds(body_bytes=500)) as client:
        assert client.post("/next/42", content=long, headers=JSON).status_code == 413
        in_chunks = (long[at : at + 100] for at in range(0, len(long), 100))
        assert client.post("/next/42", content=in_chunks, headers=JSON).status_code == 413
        assert client.post("/next/42", json=HEARD).status_code == 200


def test_too_many_requests_of_a_client_are_refused(gateway: FakeGateway) -> None:
    with serving(gateway, GatewayOptions(rate_per_s=2)) as client:
        responses = [client.get("/track/7") for _ in range(5)]
        assert [response.status_code for response in responses[:2]] == [200, 200]
        assert responses[-1].status_code == 429
        assert responses[-1].headers["retry-after"] == "1"
        assert client.get("/readyz").status_code == 200


def test_each_answer_has_a_request_id(gateway: FakeGateway, client: TestClient) -> None:
    response = client.post("/next/42", json=HEARD)
    assert response.headers["x-request-id"] == gateway.rpc.requests[-1].request_id
    response = client.post("/next/42", json=HEARD, headers={"X-Request-Id": "mine-1"})
    assert response.headers["x-request-id"] == "mine-1"
    assert gateway.rpc.headers[-1] == (("x-request-id", b"mine-1"),)
    assert gateway.rpc.requests[-1].request_id != "mine-1"
    assert client.get("/nothing", headers={"X-Request-Id": "m" * 200}).headers["x-request-id"] != "m" * 200


def test_a_call_with_an_idempotency_key_counts_once(gateway: FakeGateway, client: TestClient) -> None:
    for route in ("next", "last"):
        headers = {"Idempotency-Key": f'"{route}-1"'}
        answers = [client.post(f"/{route}/42", json=HEARD, headers=headers) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()
        assert answers[0].headers["x-event-id"] == answers[1].headers["x-event-id"]
    assert len(gateway.rpc.listens) == 2


@pytest.mark.parametrize("key", ["", "two words", "k" * 129, "schl\xfcssel"])
def test_an_invalid_key_is_refused(gateway: FakeGateway, client: TestClient, key: str) -> None:
    response = client.post("/next/42", json=HEARD, headers={"Idempotency-Key": key.encode("latin-1")})
    assert response.status_code == 400
    assert "Idempotency-Key" in response.json()["detail"]
    assert gateway.rpc.listens == []


def test_requests_are_counted_by_route_and_status(client: TestClient) -> None:
    client.post("/next/42", json=HEARD)
    client.get("/made/up")
    told = client.get("/metrics").text
    assert 'botify_gateway_requests_total{route="/next",status="200"} 1.0' in told
    assert 'botify_gateway_requests_total{route="other",status="404"} 1.0' in told
    assert "botify_gateway_next_duration_seconds_count 1.0" in told
