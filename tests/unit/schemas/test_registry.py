"""With a registry, its ids are on the wire; a stand-in speaks as much of Confluent's REST API as is needed."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas import committed
from schemas.codec import Codec
from schemas.errors import DecodeError, SchemaError, SettingsError
from schemas.events import Listen, Track
from schemas.registry import codec_of
from schemas.settings import Settings

FIRST_ID = 700
TRACK = Track(7, "Kanye West", None, None, "Stronger")


class StandIn(ThreadingHTTPServer):
    """Subjects with their schemas, in the order in which they were registered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.subjects: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}
        self.compatibility: dict[str, str] = {}
        self.may_write = True

    def answer(self, method: str, path: str, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        match [method, *path.strip("/").split("/")]:
            case ["POST", "subjects", subject]:
                known = body["schema"] in self.subjects.get(subject, ())
                return (200, {"id": self.ids[body["schema"]]}) if known else (404, {"error_code": 40403})
            case _ if not self.may_write:
                return 403, {"error_code": 40301, "message": "not for you"}
            case ["PUT", "config", subject]:
                self.compatibility[subject] = body["compatibility"]
                return 200, body
            case ["POST", "subjects", subject, "versions"]:
                self.subjects.setdefault(subject, []).append(body["schema"])
                return 200, {"id": self.ids.setdefault(body["schema"], FIRST_ID + len(self.ids))}
        return 400, {}


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = "Basic " + base64.b64encode(b"me:secret").decode()
        status, answer = (401, {}) if self.headers["Authorization"] != wanted else self._answer(body)
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_PUT(self) -> None:
        self.do_POST()

    def _answer(self, body: dict[str, str]) -> tuple[int, dict[str, object]]:
        return self.server.answer(self.command, self.path, body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def registry() -> Iterator[StandIn]:
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def settings(registry: StandIn) -> Settings:
    return Settings(schema_registry_url=f"http://me:secret@127.0.0.1:{registry.server_port}", topic_prefix="mine")


def test_the_registrys_ids_are_on_the_wire(registry: StandIn, settings: Settings) -> None:
    codec = codec_of(settings)
    raw = codec.encode(TRACK)
    (text,) = registry.subjects["mine.catalogue-value"]
    assert raw[:5] == b"\0" + registry.ids[text].to_bytes(4, "big")
    assert registry.ids[text] >= FIRST_ID
    assert codec.decode(raw, Track) == TRACK
    with pytest.raises(DecodeError, match="unknown schema id"):
        Codec().decode(raw, Track)


def test_all_versions_are_registered_in_order_under_the_name_of_their_topic(
    registry: StandIn, settings: Settings
) -> None:
    codec_of(settings)
    by_version = sorted(committed.load(), key=lambda schema: schema.version)
    assert registry.subjects["mine.listens-value"] == [one.text for one in by_version if one.event is Listen]
    assert len(registry.subjects) == len(committed.EVENTS)
    assert set(registry.compatibility.values()) == {"BACKWARD_TRANSITIVE"}


def test_what_is_registered_already_needs_no_right_to_write(registry: StandIn, settings: Settings) -> None:
    codec = codec_of(settings)
    registry.may_write = False
    address = settings.schema_registry_url or ""
    again = codec_of(settings.with_(schema_registry_url=f"{address}/"))  # another process
    assert again.encode(TRACK) == codec.encode(TRACK)


def test_a_registry_that_refuses_is_named_with_what_it_said_and_without_the_password(
    registry: StandIn, settings: Settings
) -> None:
    registry.may_write = False
    with pytest.raises(SchemaError, match=r"at http://\*\*\*@127\.0\.0\.1:\d+ does not take .*-1\.avsc.*403") as caught:
        codec_of(settings)
    assert "secret" not in str(caught.value)


def test_a_registry_that_is_not_there_is_named(registry: StandIn, settings: Settings) -> None:
    registry.shutdown()
    registry.server_close()
    with pytest.raises(SchemaError, match="no schema registry answers at http") as caught:
        codec_of(settings)
    assert "secret" not in str(caught.value)


def test_an_address_that_is_none_names_its_variable() -> None:
    with pytest.raises(SettingsError, match="SCHEMA_REGISTRY_URL: the address must start with one of http://"):
        Settings.from_env({"SCHEMA_REGISTRY_URL": "registry:8081"})
