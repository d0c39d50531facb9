"""Agents that recommend in the same process."""

import io
import json
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from botify.core.errors import LoadError
from botify.sim import AgentError, SimulationError
from botify.sim.agents import Agent, load_agent
from botify.sim.options import RunOptions
from botify.sim.play import play_world
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World, WorldCatalogue
from tests.support import Background

OPTIONS = RunOptions(sessions=20, in_flight=5, start_ms=0)
Reply = tuple[int, bytes]


def next_track(path: str, body: dict[str, Any]) -> Reply:
    return 200, json.dumps({"track": (body["track"] + 1) % 400} if path.startswith("/next") else {}).encode()


class Server(ThreadingHTTPServer):
    """Botify's REST API, answering the next track; `answer` may be replaced."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer: Callable[[str, dict[str, Any]], Reply] = next_track
        self.closes = False
        self.told: list[tuple[str, Any]] = []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.told.append((self.path, body))
        status, content = self.server.answer(self.path, body)
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = self.server.closes

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    httpd = Server()
    with Background(lambda: httpd.serve_forever(poll_interval=0.01)), httpd:
        yield httpd
        httpd.shutdown()


def http_agent(world: World, url: str) -> Agent:
    return load_agent("http", world, 1, url, Console())


@pytest.mark.parametrize("closes", [False, True])
def test_the_http_agent_speaks_botifys_rest_api(small_world: World, server: Server, closes: bool) -> None:
    server.closes = closes
    heard: list[FinishedListens] = []
    done = play_world(small_world, http_agent(small_world, server.url), OPTIONS, listener=heard.append)
    listens = [
        row for batch in heard for row in zip(*(getattr(batch, c).tolist() for c in batch.__slots__), strict=True)
    ]
    assert sorted(server.told, key=repr) == sorted(
        (
            (f"/{'last' if ended else 'next'}/{user}", {"track": track, "time": fraction})
            for _, user, _, _, track, fraction, _, ended in listens
        ),
        key=repr,
    )
    assert done.listens == len(listens)
    following = {(user, ordinal, position): track for _, user, ordinal, position, track, *_ in listens}
    for (user, ordinal, position), track in following.items():
        if position:
            assert track == (following[user, ordinal, position - 1] + 1) % 400


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((500, b"oops"), r"/next/\d+: status 500: b'oops'"),
        ((200, b"<html>"), "not JSON"),
        ((200, b"{}"), r"answered \{\}; a track from 0 to 399"),
        ((200, b'{"track": 400}'), "a track from 0 to 399"),
    ],
)
def test_a_server_that_fails_is_named_with_what_it_said(
    small_world: World, server: Server, answer: Reply, message: str
) -> None:
    server.answer = lambda path, body: answer
    with pytest.raises(AgentError, match=message):
        play_world(small_world, http_agent(small_world, server.url), OPTIONS)


def test_a_server_that_is_not_there_is_named(small_world: World, server: Server) -> None:
    with pytest.raises(AgentError, match="is the server up"):
        play_world(small_world, http_agent(small_world, "http://127.0.0.1:9"), OPTIONS)
    with pytest.raises(AgentError, match="not the address"):
        http_agent(small_world, "localhost:5001")


def test_a_person_plays_in_the_terminal(small_world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter(["900", "nonsense", "12"] + [str(n) for n in range(100)])
    monkeypatch.setattr("builtins.input", lambda *_: next(answers))
    screen = io.StringIO()
    agent = load_agent("console", small_world, 1, "", Console(file=screen, width=120))
    heard: list[FinishedListens] = []
    done = play_world(small_world, agent, RunOptions(sessions=1, in_flight=1, start_ms=0), listener=heard.append)
    tracks = [batch.tracks[0] for batch in heard if len(batch)]
    shown = screen.getvalue()
    assert tracks[1] == 12
    assert "There is no track 900" in shown
    assert small_world.catalogue.titles[12] in shown
    assert f"{done.listens} tracks, {done.time:.2f} time" in shown


class Own:
    answer: NDArray[Any] | None = None

    def __init__(self, catalogue: WorldCatalogue, seed: int) -> None:
        """Need neither."""

    def recommend(self, heard: FinishedListens) -> NDArray[Any]:
        return self.answer if self.answer is not None else np.zeros(len(heard), dtype=np.int64)

    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


def test_an_agent_is_found_by_module_and_class_and_one_that_is_none_refused(small_world: World) -> None:
    agent = load_agent(f"{__name__}:Own", small_world, 1, "", Console())
    assert play_world(small_world, agent, OPTIONS).sessions == 20
    with pytest.raises(LoadError, match="kafka, dummy, http, console"):
        load_agent("nobody", small_world, 1, "", Console())
    with pytest.raises(SimulationError, match="needs the methods recommend and finish"):
        load_agent("operator:is_", small_world, 1, "", Console())


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (np.array([400] * 5), "recommended track 400; choose from 0 to 399"),
        (np.array([-1] * 5), "recommended track -1"),
        (np.array([1.5] * 5), "float64"),
        (np.array([1]), r"shape \(1,\)"),
    ],
)
def test_an_answer_that_is_no_track_ends_the_run(small_world: World, answer: NDArray[Any], message: str) -> None:
    agent = Own(small_world.catalogue, 1)
    agent.answer = answer
    with pytest.raises(AgentError, match=message):
        play_world(small_world, agent, RunOptions(sessions=5, in_flight=5, rate=None, start_ms=0))
