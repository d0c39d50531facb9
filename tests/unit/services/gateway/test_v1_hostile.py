"""What nobody should send to `/v1` is refused as a problem that names the place, and nothing of it is published."""

import json

import pytest
from starlette.testclient import TestClient

from botify.schemas.validation import MAX_TRACK, MAX_USER
from botify.services.gateway import Bounds
from botify.services.gateway.v1.models import MAX_EVENTS, MAX_EXCLUDED
from tests.unit.services.gateway.fakes import FakeGateway, problem_in, serving

JSON = {"Content-Type": "application/json"}
LONG = "x" * 201


def assert_nothing_was_published(gateway: FakeGateway) -> None:
    assert (gateway.rpc.listens, gateway.rpc.published, gateway.listeners.records) == ([], [], {})


EVENT = {"kind": "listen", "user": 42, "item": 7}


def event(**changed: object) -> bytes:
    """An event as JSON; what is bytes is written as it is."""
    fields = {**EVENT, **changed}
    values = [value if isinstance(value, bytes) else json.dumps(value).encode() for value in fields.values()]
    return b"{%s}" % b", ".join(
        b'"%s": %s' % (name.encode(), value) for name, value in zip(fields, values, strict=True)
    )


def shown(items: list[object], **more: object) -> bytes:
    return json.dumps({"kind": "shown", "user": 42, "items": items, **more}).encode()


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        *(("events", event(fraction=value), "/body/fraction")
          for value in (b"NaN", b"-Infinity", b"1e999", 1.0000000000000002, -0.1, True, "1")),
        ("events", event(fraction=b'"\\ud800"'), "/body"),
        *(("events", event(user=value), "/body/user/constrained-str") for value in (-1, MAX_USER + 1, b"1e300")),
        ("events", event(user=""), "/body/user/constrained-str"),
        *(("events", event(item=value), "/body/item") for value in (-7, 2**63, [7])),
        *(("events", event(item=value), "/body/events/0/item") for value in ("", "none", "x" * 10_000)),
        *(("events", event(time=value), "/body/time") for value in (0, "0000-01-01T00:00:00Z", "1970-01-01T00:00:00")),
        *(("events", event(time=value), "/body/events/0/time")
          for value in ("1969-12-31T23:59:59Z", "2199-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59")),
        ("events", event(id=LONG), "/body/id"),
        ("events", event(session=""), "/body/session"),
        ("events", event(kind="like\0"), "/body/kind"),
        ("events", event(kind="play"), "/body/events/0/kind"),
        ("events", event(kind="unlike", ends_session=True), "/body/events/0/fraction"),
        ("events", event(ends_session=1), "/body/ends_session"),
        ("events", event(x=1), "/body/x"),
        *(("events", shown(items), "/body/items") for items in ([], [7] * 101)),
        ("events", b'{"events": [%s]}' % shown([7], item=7), "/body/events/0/item"),
        ("events", shown([7, "none"]), "/body/events/0/items/1"),
        ("events", b'{"events": [%s, null]}' % event(kind="like"), "/body/events/1"),
        ("events", b'{"events": {"0": %s}}' % event(kind="like"), "/body/events"),
        ("events", b'{"events": []}', "/body/events"),
        *(("events", body, "/body") for body in (b"[]", b"null", b"")),
        ("items/7", b'{"title": "", "artist": "a"}', "/body/title"),
        ("items/7", b'{"title": "x"}', "/body/artist"),
        ("items/7", b'{"title": "\\ud800", "artist": "a"}', "/body"),
        ("items/7", b'{"title": "t", "artist": "a", "year": 10000}', "/body/year"),
        ("items/7", b'{"title": "t", "artist": "a", "genres": [""]}', "/body/genres/0"),
        ("items/7", b'{"title": "t", "artist": "a", "deleted": true}', "/body/deleted"),
        *(("items/7", b'{"title": "t", "artist": "a", "vector": %s}' % vector, pointer) for vector, pointer in
          ((b"[]", "/body/vector"), (b"[0, 0]", "/body/vector"), (b'["x"]', "/body/vector/0"),
           (b"[%s]" % b",".join([b"1"] * 1_025), "/body/vector"))),
        ("users/42", b'{"likes": 7}', "/body/likes"),
        ("users/42", b'{"likes": [7, true]}', "/body/likes/1"),
        ("users/42", b'{"likes": [7], "dislikes": [7]}', "/body/dislikes/0"),
        ("users/42", b'{"likes": [%d]}' % (MAX_TRACK + 1), "/body/likes/0"),
        ("users/42", b'{"name": "Bob"}', "/body/name"),
        ("users/42", b'{"attributes": {"Country": "de"}}', "/body/attributes/Country/[key]"),
        ("users/42", b'{"attributes": {"country": ""}}', "/body/attributes/country"),
        ("users/42", b'{"attributes": {"country": "%s"}}' % (b"x" * 65), "/body/attributes/country"),
        ("users/42", b'{"attributes": {%s}}' % b",".join(b'"a%d": "x"' % at for at in range(17)), "/body/attributes"),
        ("groups/recommendations", b'{"users": []}', "/body/users"),
        ("groups/recommendations", b'{"users": [%s]}' % b",".join([b"42"] * 17), "/body/users"),
        ("groups/recommendations", b'{"users": [42], "n": 0}', "/body/n"),
        ("groups/recommendations", b'{"users": [42], "filter": ["x"]}', "/body/filter/0"),
        ("groups/recommendations", b'{"users": [42], "exclude": [""]}', "/body/exclude/0"),
    ],
    ids=lambda value: repr(value)[:60],
)  # fmt: skip
def test_a_hostile_body_is_refused_by_the_name_of_its_field(
    client: TestClient, gateway: FakeGateway, path: str, body: bytes, pointer: str
) -> None:
    method = "PUT" if path in ("items/7", "users/42") else "POST"
    answer = client.request(method, f"/v1/{path}", content=body, headers=JSON)
    assert pointer in [error["pointer"] for error in problem_in(answer, 422)["errors"]]
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize("path", ["events", "items/7", "users/42"])
@pytest.mark.parametrize(
    "body", [b"{", b"\xff\xfe", b"[" * 10_000, b'{"a":' * 3_000, b"\x00", b"{}" * 2, b"1" * 5_000, b'"\\ud800"']
)
def test_what_is_no_json_is_refused(client: TestClient, gateway: FakeGateway, path: str, body: bytes) -> None:
    method = "POST" if path == "events" else "PUT"
    problem_in(client.request(method, f"/v1/{path}", content=body, headers=JSON), 400, 422)
    assert_nothing_was_published(gateway)


QUERIES = f"""
n=NaN n=-1 n=0 n=101 n={"9" * 5_000} n= m=1 explain=1 exclude=%FF session= session={LONG}{LONG} session=%ED%A0%80
filter=rock filter=color:red filter=genre: filter=%00 filter=genre:{LONG} {"&".join(["filter=genre:rock"] * 21)}
filter=genre%3Erock filter=year%3E%3Dnew filter=color!:red filter=year%3E cap=artist cap=artist:0 cap=color:1
cap=artist:1000 exclude_shown=1 exclude_shown=1w exclude_shown=0d exclude_shown=d exclude_shown=sessions
{"&".join(["exclude=7"] * (MAX_EXCLUDED + 1))}
""".split()
PATHS = f"""
users/-1 users/{MAX_USER + 1} users/%00 users/%F0%9F%8E%B5 users/%D9%A3 users/%FF%FE users/%ED%A0%80 users/{LONG} users/
users/..%2F..%2Fetc%2Fpasswd users//recommendations nothing
items/ items/%00 items/%22%22 items/{"9" * 5_000} items/{MAX_TRACK + 1} items/7?n=1 items/7/similar/similar
items/7/similar?limit=0 items/7/similar?limit=201 items/7/similar?limit=1e2 items/7/similar?limit=1&limit=2
popular?cursor=-1 popular?cursor=o999999999 popular?cursor=o%D9%A3 popular?half_life=1w latest?offset=1
""".split()


@pytest.mark.parametrize(
    "path", [*PATHS, *(f"users/42/recommendations?{query}" for query in QUERIES)], ids=lambda path: path[:60]
)
def test_a_hostile_address_is_refused_by_its_name(client: TestClient, gateway: FakeGateway, path: str) -> None:
    problem = problem_in(client.get(f"/v1/{path}"), 404, 422)
    if problem["status"] == 422 and "is not text" not in problem["detail"]:
        (error,) = problem["errors"]
        _, asked, query = path.partition("?")
        assert error["pointer"].startswith(f"/query/{query.partition('=')[0]}" if asked else "/path/")
    assert gateway.rpc.requests == []
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize(
    "query",
    ["exclude=%00", "exclude=" + "," * 5_000, "exclude=" + ",".join(["9" * 400] * 50), "exclude=%22%22",
     "filter=genre:%00", "filter=genre:" + "%F0%9F%8E%B5" * 40, "filter=genre:.*&filter=genre:)(",
     "session=%00", "session=%F0%9F%8E%B5"],
    ids=lambda query: query[:60],
)  # fmt: skip
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
        problem_in(client.post("/v1/events", json={"events": [like, {**like, "item": "none"}]}), 422)
    assert_nothing_was_published(gateway)


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", "users/42"), ("POST", "items/7"), ("PUT", "events"), ("DELETE", "popular")]
)
def test_a_method_that_is_not_there_is_refused(client: TestClient, method: str, path: str) -> None:
    answer = client.request(method, f"/v1/{path}")
    problem_in(answer, 405)
    assert answer.headers["allow"]
