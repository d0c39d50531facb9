"""Asks a server that speaks Botify's REST API: `POST /next/<user>` and `POST /last/<user>`."""

from __future__ import annotations

import http.client
import itertools
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sim.errors import AgentError
from sim.listeners.model import Ints
from sim.simulation import FinishedListens

TIMEOUT_S = 10.0
CONNECTIONS = 16


class HttpAgent:
    """Botify's remote recommender.

    Sends `{"track": ..., "time": fraction}`; `/next` answers `{"track": ...}`. Each listen is told once: a connection
    that was closed, while idle as a rule, is opened again, with the same `Idempotency-Key`; any other failure ends the
    run.

    Parameters
    ----------
    url : str
        Where the server is, such as `http://127.0.0.1:5001`.
    tracks : int
        How many tracks the catalogue has.
    """

    def __init__(self, url: str, tracks: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AgentError(f"{url!r} is not the address of a server, such as http://127.0.0.1:5001")
        self._url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._tracks = tracks
        self._of_thread = threading.local()
        self._keys = map(f"{secrets.token_hex(8)}-{{}}".format, itertools.count())
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="http-agent")

    def recommend(self, heard: FinishedListens) -> Ints:
        """Ask for the next track of each listener.

        Raises
        ------
        AgentError
            The server cannot be reached, fails, or answers with something that is no track.
        """
        return np.fromiter(self._pool.map(self._next, *_columns(heard)), dtype=np.int64, count=len(heard))

    def finish(self, heard: FinishedListens) -> None:
        """Tell the last listens of sessions; raises as `recommend`."""
        for _ in self._pool.map(self._last, *_columns(heard)):
            pass

    def _next(self, user: int, track: int, fraction: float) -> int:
        path = f"/next/{user}"
        answer = self._post(path, track, fraction)
        following = answer.get("track") if isinstance(answer, dict) else None
        if type(following) is not int or not 0 <= following < self._tracks:
            raise AgentError(
                f"{self._url}{path} answered {answer!r}; a track from 0 to {self._tracks - 1} was expected"
            )
        return following

    def _last(self, user: int, track: int, fraction: float) -> None:
        self._post(f"/last/{user}", track, fraction)

    def _post(self, path: str, track: int, fraction: float) -> Any:
        body = json.dumps({"track": track, "time": fraction})
        try:
            response = self._exchange(path, body)
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise AgentError(f"{self._url}{path}: {error!r}; is the server up?") from error
        if response.status != http.client.OK:
            raise AgentError(f"{self._url}{path}: status {response.status}: {content[:200]!r}")
        try:
            return json.loads(content)
        except ValueError as error:
            raise AgentError(f"{self._url}{path} answered {content[:200]!r}, which is not JSON") from error

    def _exchange(self, path: str, body: str) -> http.client.HTTPResponse:
        headers = {"Content-Type": "application/json", "Idempotency-Key": next(self._keys)}
        connection: http.client.HTTPConnection | None = getattr(self._of_thread, "connection", None)
        if connection is None:
            connection = self._of_thread.connection = self._connect()
        try:
            connection.request("POST", self._prefix + path, body, headers)
            return connection.getresponse()
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            connection.close()  # the server let go of an idle connection
            connection.request("POST", self._prefix + path, body, headers)
            return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=TIMEOUT_S)


def _columns(heard: FinishedListens) -> tuple[list[int], list[int], list[float]]:
    return heard.users.tolist(), heard.tracks.tolist(), heard.fractions.tolist()
