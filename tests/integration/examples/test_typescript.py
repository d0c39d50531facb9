"""The TypeScript client is made from the gateway's own document, compiles, and does what it says."""

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.schemas.topics import Topics
from tests.integration.services.gateway.conftest import start
from tests.support import make_tracks, opinions_in_redis, produce, running

SOURCES = Path(__file__).parents[3] / "examples/typescript"
RETRIES = """
import { BotifyClient, ProblemError, UnavailableError, inRequests } from "./dist/client.js";
const botify = new BotifyClient(process.argv[1], { token: "secret" });
const event = (n, user) => ({ kind: "listen", user, item: `t-${n}` });
const ids = await botify.send(...Array.from({ length: 120 }, (_, n) => event(n, "ann")));
const { items } = await botify.popular({ limit: 3 });
const refused = await botify.item("7").catch((error) => error);
const gone = await botify.user("slow").catch((error) => error);
const long = [...inRequests(Array.from({ length: 2000 }, (_, n) => event("x".repeat(400) + n, n)))];
console.log(JSON.stringify({
  ids: ids.length, items, refused: [refused instanceof ProblemError, refused.message],
  gone: gone instanceof UnavailableError, parts: long.map((part) => part.length),
}));
"""


def run(folder: Path, *command: str, **env: str) -> str:
    done = subprocess.run(  # noqa: S603 - the test's own commands
        command, cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def project(tmp_path: Path) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("`npm` and `node` make and run the client, and are not there")
    left_out = shutil.ignore_patterns("node_modules", "dist", "v1.ts")
    folder = shutil.copytree(SOURCES, tmp_path / "typescript", ignore=left_out)
    run(folder, "npm", "ci", "--no-audit", "--no-fund")
    return folder


class Busy(BaseHTTPRequestHandler):
    """Answers each call with 503 or 429 first, one never, and keeps what was sent."""

    calls: list[tuple[str, Any]]

    def do_GET(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null")
        self.calls.append((self.path, body))
        assert self.headers["authorization"] == "Bearer secret"
        attempts = self.calls.count((self.path, body))  # of this call alone: one that a client gave up shifts no other
        status, answer = 200, {"ids": [one["id"] for one in body["events"]]} if body else {"items": []}
        if "slow" in self.path or attempts == 1:
            status, answer = (503 if body else 429), {"detail": "busy"}
        elif "%22" in self.path:
            status, answer = 404, {"detail": "no such item", "errors": [{"pointer": "/item", "detail": "it is gone"}]}
        self.send_response(status)
        self.send_header("retry-after", "0" if attempts % 4 else "1")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def do_POST(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def busy() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    calls: list[tuple[str, Any]] = []
    server = HTTPServer(("127.0.0.1", 0), type("Busier", (Busy,), {"calls": calls}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/", calls
    finally:
        server.shutdown()
        server.server_close()


def test_the_client_is_built_from_the_gateway_and_serves_a_listener(settings: Settings, project: Path) -> None:
    tracks = [track._replace(external_id=f"t-{track.track}") for track in make_tracks(50)]
    produce(settings, Topics.of(settings).catalogue.name, tracks)
    with (
        running(settings, "botify.services.recommender"),
        running(settings, "botify.streams.worker"),
        ExitStack() as programs,
    ):
        url = str(start(programs, settings, DEADLINE_MS=10_000).base_url).rstrip("/")
        run(project, "npm", "run", "build", BOTIFY_URL=url)
        printed = run(project, "node", "dist/listener.js", "42", url).splitlines()
        assert len(printed) == 6
        disliked = printed[-1].removeprefix("42 dislikes ")
        assert disliked.startswith("t-")
        assert not any(line.startswith(f"{disliked}\t") for line in printed[:-1])
        assert [(track, kind) for _, track, kind in opinions_in_redis(settings)[42]] == [(int(disliked[2:]), "dislike")]
    with busy() as (url, calls):
        told = json.loads(run(project, "node", "--input-type=module", "-e", RETRIES, url))
    sent = [body["events"] for path, body in calls if body]
    assert told["ids"] == 120
    assert [len(part) for part in sent] == [50, 50, 50, 50, 20, 20]
    assert sent[0] == sent[1]  # the same ids, so that they count once
    assert told["items"] == []
    assert told["refused"] == [True, "404: no such item; /item: it is gone"]
    assert told["gone"]
    assert len([path for path, _ in calls if "slow" in path]) == 4
    assert sum(told["parts"]) == 2000
    assert max(told["parts"]) < 600
