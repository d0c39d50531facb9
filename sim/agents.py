"""Agents: what recommends tracks to the listeners of a simulation, without Kafka."""

import http.client
import itertools
import json
import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol
from urllib.parse import urlsplit

import numpy as np
from rich.console import Console
from rich.prompt import IntPrompt
from rich.table import Table

from botify.core.keyed_random import integers, mix
from botify.core.loading import load_object
from botify.sim import AgentError
from botify.sim.listeners.model import AGENT, Ints
from botify.sim.simulation import FinishedListens
from botify.sim.world.model import World, WorldCatalogue


class Agent(Protocol):
    """Recommends the next track, for many listeners at a time."""

    def recommend(self, heard: FinishedListens) -> Ints:
        """Return a track for each listen just made, in the same order; none of them ended its session."""

    def finish(self, heard: FinishedListens) -> None:
        """Process the listens that ended their sessions."""


class DummyAgent:
    """Draws every track with the same probability; the same listen gets the same answer in any order of listens."""

    def __init__(self, catalogue: WorldCatalogue, seed: int) -> None:
        self._tracks = len(catalogue)
        self._seed = seed

    def recommend(self, heard: FinishedListens) -> Ints:
        keys = mix(self._seed, heard.users, heard.ordinals, heard.positions)
        return integers(keys, AGENT, np.int64(self._tracks))

    def finish(self, heard: FinishedListens) -> None:
        """Do nothing."""


TIMEOUT_S = 10.0
CONNECTIONS = 16


class HttpAgent:
    """Calls a server with Botify's REST API: `POST /next/<user>` and `POST /last/<user>`.

    Sends `{"track": ..., "time": fraction}`; `/next` answers `{"track": ...}`. A listen is sent again only if the
    server closed the connection, usually an idle one, and with the same `Idempotency-Key`; any other failure ends the
    run.
    """

    def __init__(self, url: str, tracks: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise AgentError(f"url {url!r} is not the address of a server; give one such as http://127.0.0.1:5001")
        self._url = url.rstrip("/")
        self._prefix = parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._tracks = tracks
        self._of_thread = threading.local()
        self._keys = map(f"{secrets.token_hex(8)}-{{}}".format, itertools.count())
        self._pool = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="http-agent")

    def recommend(self, heard: FinishedListens) -> Ints:
        """Request the next tracks; raises `AgentError` if the server cannot be reached, fails, or answers no track."""
        return np.fromiter(self._pool.map(self._next, *_columns(heard)), dtype=np.int64, count=len(heard))

    def finish(self, heard: FinishedListens) -> None:
        """Send the last listens of sessions; raises as `recommend`."""
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
            connection.close()  # the server has closed an idle connection
            connection.request("POST", self._prefix + path, body, headers)
            return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=TIMEOUT_S)


def _columns(heard: FinishedListens) -> tuple[list[int], list[int], list[float]]:
    return heard.users.tolist(), heard.tracks.tolist(), heard.fractions.tolist()


_OFFER = 5
_LOVED, _LIKED = 0.7, 0.3


class ConsoleAgent:
    """Lets a person recommend: shows each listen in the terminal, and asks for the next track, offering some."""

    def __init__(self, catalogue: WorldCatalogue, seed: int, console: Console) -> None:
        self._catalogue = catalogue
        self._rng = np.random.default_rng(seed)
        self._console = console
        self._scores: dict[int, tuple[int, float]] = {}  # user -> tracks, time

    def recommend(self, heard: FinishedListens) -> Ints:
        chosen = []
        for user, track, fraction in zip(*_columns(heard), strict=True):
            self._show(user, track, fraction)
            offers = self._offers(track)
            self._console.print(self._table(offers))
            chosen.append(self._ask(offers))
        return np.array(chosen, dtype=np.int64)

    def finish(self, heard: FinishedListens) -> None:
        for user, track, fraction in zip(*_columns(heard), strict=True):
            self._show(user, track, fraction)
            tracks, time = self._scores.pop(user)
            self._console.print(f"Listener {user} left: [bold]{tracks} tracks, {time:.2f} time[/bold]\n")

    def _show(self, user: int, track: int, fraction: float) -> None:
        tracks, time = self._scores.get(user, (0, 0.0))
        self._scores[user] = (tracks + 1, time + fraction)
        reaction = "loved it" if fraction >= _LOVED else "liked it" if fraction >= _LIKED else "skipped it"
        self._console.print(f"Listener {user} heard {fraction:.0%} of {self._name(track)} and {reaction}.")

    def _offers(self, track: int) -> list[int]:
        artist = self._catalogue.artist_of[track]
        by_artist = np.flatnonzero(self._catalogue.artist_of == artist)
        anything = self._rng.integers(len(self._catalogue), size=_OFFER)
        offers = [*self._rng.permutation(by_artist)[:2].tolist(), *anything.tolist()]
        return offers[:_OFFER]

    def _table(self, offers: list[int]) -> Table:
        table = Table("track", "title", "artist", "genre")
        for track in offers:
            artist, genre = self._catalogue.artist_of[track], int(self._catalogue.genre_of[track])
            named = self._catalogue.titles[track], self._catalogue.artists[artist]
            table.add_row(str(track), *named, self._catalogue.genres[genre] if genre >= 0 else "")
        return table

    def _ask(self, offers: list[int]) -> int:
        last = len(self._catalogue) - 1
        while True:
            track = IntPrompt.ask(f"Next track (any from 0 to {last})", console=self._console, default=offers[0])
            if 0 <= track <= last:
                return track
            self._console.print(f"There is no track {track}.")

    def _name(self, track: int) -> str:
        artist = self._catalogue.artists[self._catalogue.artist_of[track]]
        return f"[bold]{self._catalogue.titles[track]}[/bold] by {artist} (track {track})"


AGENTS = ("dummy", "http", "console")


def load_agent(name: str, world: World, seed: int, url: str, console: Console) -> Agent:
    """Make one of `AGENTS`, or an agent `module:Class` that takes a catalogue and a seed.

    Raises `LoadError` if there is no agent of that name, it cannot be imported, or it takes other arguments, and
    `AgentError` if it lacks the methods of an agent.
    """
    match name:
        case "dummy":
            return DummyAgent(world.catalogue, seed)
        case "http":
            return HttpAgent(url, len(world.catalogue))
        case "console":
            return ConsoleAgent(world.catalogue, seed, console)
    wanted = f"an agent; there are kafka, {', '.join(AGENTS)}"
    agent: Agent = load_object(name, wanted, catalogue=world.catalogue, seed=seed)
    if not (callable(getattr(agent, "recommend", None)) and callable(getattr(agent, "finish", None))):
        raise AgentError(f"{name} is not an agent: it needs the methods recommend and finish")
    return agent
