"""A stand-in for a schema registry: as much of Confluent's REST API as is needed, behind a password."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FIRST_ID = 700
USER, PASSWORD = "me", "secret"


class StandIn(ThreadingHTTPServer):
    """Subjects with their schemas, in the order in which they were registered."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.subjects: dict[str, list[str]] = {}
        self.ids: dict[str, int] = {}
        self.compatibility: dict[str, str] = {}
        self.may_write = True

    @property
    def url(self) -> str:
        return f"http://{USER}:{PASSWORD}@127.0.0.1:{self.server_port}"

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
        wanted = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
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


@contextmanager
def running_registry() -> Iterator[StandIn]:
    """Serve a registry without any schema while the block runs."""
    server = StandIn()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
