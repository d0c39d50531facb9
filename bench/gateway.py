"""A closed loop of HTTP listeners: `python -m botify.bench.gateway PORT TRACKS` prints its measurements as JSON.

Raw connections and fixed requests: CPU time of the client is missing to the gateway, which shares the cores.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import psutil
import typer
import uvloop

from botify.bench.cpu import CPU_US, Meter
from botify.bench.loop import running, wait_until_logged
from botify.core.settings import Settings

SESSION_TRACKS = 8
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TRACK = re.compile(rb'"track":\s*(\d+)')


class Measured:
    """The measurements of all connections since the warm-up.

    Attributes
    ----------
    latencies_s : list of float
        One for each answered `/next`.
    seconds : float
    fallbacks : int
    failed : dict
        Status -> how many.
    cpu_us : dict
        Process, of those that the parent process started -> CPU time an answered `/next`.
    """

    def __init__(self) -> None:
        self.warm = False
        self.seconds = 0.0
        self.latencies_s: list[float] = []
        self.fallbacks = self.slate_fallbacks = 0
        self.failed: dict[int, int] = {}
        self.cpu_us: dict[str, float] = {}

    def update(self, latency_s: float, head: bytes, *, is_next: bool) -> None:
        """Count an answer."""
        if not self.warm:
            return
        status = int(head[9:12])
        if status != 200:
            self.failed[status] = self.failed.get(status, 0) + 1
        elif is_next:
            self.latencies_s.append(latency_s)
            self.fallbacks += b"x-botify-fallback" in head


class Listener(asyncio.Protocol):
    """One connection: one listener after another, each with some `/next` and a `/last`.

    Parameters
    ----------
    slates : bool
        Ask `/v1` for ten recommendations instead, each time for another listener.
    every_s : float
        Time from one request to the next; 0 asks again at once.
    """

    def __init__(
        self,
        measured: Measured,
        number: int,
        users: int,
        tracks: int,
        *,
        slates: bool = False,
        every_s: float = 0.0,
    ) -> None:
        self._measured = measured
        self._slates, self._every_s = slates, every_s
        self._due_s = time.perf_counter() + random.Random(number).random() * every_s
        self._rng = random.Random(number)
        self._users, self._tracks = users, tracks
        self._buffer = b""
        self._left = 0
        self._track = self._user = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the first session."""
        self._transport = transport
        self._ask_again()

    def _ask_again(self) -> None:
        self._when_due(self._ask_for_slate if self._slates else self._start_session)

    def _when_due(self, ask: Callable[[], None]) -> None:
        """Send the next request when it is due."""

        def ask_if_open() -> None:
            if not self._transport.is_closing():
                ask()

        if not self._every_s:
            ask_if_open()
            return
        self._due_s = max(self._due_s + self._every_s, time.perf_counter() - 1.0)
        asyncio.get_running_loop().call_later(max(0.0, self._due_s - time.perf_counter()), ask_if_open)

    def _ask_for_slate(self) -> None:
        user = self._rng.randrange(self._users)
        self._transport.write(  # type: ignore[attr-defined]
            b"GET /v1/users/%d/recommendations?n=10 HTTP/1.1\r\nHost: gateway\r\n\r\n" % user
        )
        self._sent_s = time.perf_counter()

    def data_received(self, data: bytes) -> None:
        """Handle an answer, and send how much of its track was heard."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        is_next = self._slates or self._left > 0
        self._measured.update(time.perf_counter() - self._sent_s, head, is_next=is_next)
        self._buffer = b""
        if not is_next:
            self._ask_again()
            return
        if self._slates:
            self._measured.slate_fallbacks += b'"fallback":true' in body
            self._ask_again()
            return
        self._left -= 1
        if (track := _TRACK.search(body)) is not None:
            self._track = int(track[1])
        self._when_due(self._send)

    def _start_session(self) -> None:
        self._user, self._track = self._rng.randrange(self._users), self._rng.randrange(self._tracks)
        self._left = self._rng.randrange(1, 2 * SESSION_TRACKS)
        self._send()

    def _send(self) -> None:
        body = b'{"track":%d,"time":%.2f}' % (self._track, self._rng.random())
        self._transport.write(  # type: ignore[attr-defined]
            b"POST /%s/%d HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (b"next" if self._left else b"last", self._user, len(body), body)
        )
        self._sent_s = time.perf_counter()


async def listen(
    port: int,
    connections: int,
    users: int,
    tracks: int,
    warm_up_s: float,
    seconds: float,
    *,
    slates: bool = False,
    rate: float = 0.0,
    until_closed: bool = False,
) -> Measured:
    """Keep the connections busy, and return the measurements after the warm-up.

    Parameters
    ----------
    until_closed : bool
        Measure until standard input is closed, instead of for some seconds.
    """
    loop, measured = asyncio.get_running_loop(), Measured()
    every_s = connections / rate if rate else 0.0
    connection = partial(Listener, measured, users=users, tracks=tracks, slates=slates, every_s=every_s)
    opened = [
        await loop.create_connection(partial(connection, number), "127.0.0.1", port) for number in range(connections)
    ]
    await asyncio.sleep(warm_up_s)
    measured.warm, began_s = True, time.perf_counter()
    meter = Meter("listeners", psutil.Process(os.getppid()))
    await (asyncio.to_thread(sys.stdin.read) if until_closed else asyncio.sleep(seconds))
    measured.warm = False
    measured.seconds = time.perf_counter() - began_s
    measured.cpu_us = meter.us_per(max(1, len(measured.latencies_s)))
    for transport, _ in opened:
        transport.close()
    return measured


def main(
    port: int,
    tracks: int,
    connections: int = 32,
    users: int = 10_000,
    warm_up: float = 5.0,
    seconds: float = 30.0,
    rate: float = 0.0,
    *,
    slates: bool = False,
    until_closed: bool = False,
) -> None:
    """Run the load, and print the figures."""
    load = listen(
        port, connections, users, tracks, warm_up, seconds, slates=slates, rate=rate, until_closed=until_closed
    )
    measured = uvloop.run(load)
    latencies_ms = np.array(measured.latencies_s) * 1000
    figures = {
        "per_s": len(latencies_ms) / measured.seconds,
        "p50_ms": float(np.percentile(latencies_ms, 50)),
        "p99_ms": float(np.percentile(latencies_ms, 99)),
        "longest_ms": float(latencies_ms.max()),
        "fallbacks": float(measured.fallbacks + measured.slate_fallbacks),
        "failed": float(sum(measured.failed.values())),
        CPU_US: measured.cpu_us,
    }
    json.dump(figures, sys.stdout)


CONNECTIONS = 32
"""Each waits for its answer before it asks again, so at n a second the mean latency is 32 / n seconds."""
SECONDS = 15.0
"""Of each of five runs; with starting and compiling all of it takes two and a half minutes."""
READY_S = 60.0
WITHOUT_DASHBOARD = {
    "BOTIFY_GATEWAY_PORT": "0",
    "BOTIFY_GATEWAY_DASHBOARD": "off",
    "BOTIFY_GATEWAY_RATE_PER_S": "1000000",
}
"""Settings of a gateway on any port, which serves listeners only."""
LATE_S = 60.0
"""How much longer than it should a run of the listeners may take."""
COMPILE_S = 30.0
"""While worker and recommender compile their loops, they compete with what is measured."""


def measure_gateway(settings: Settings, tracks: int) -> dict[str, dict[str, Any]]:
    """Start worker, recommender and gateway, run the listeners, and return `gateway` and `gateway_v1`.

    Returns
    -------
    dict
        `gateway`: `next_per_s`, `p50_ms`, `p99_ms`, `fallbacks`, `failed`, `connections`, `cpu_us`, of `/next`.
        `gateway_v1`: the same of ten recommendations by `/v1` (`recommendations_per_s`), with `share_of_next`, and
        `half_p99_ms` at half of that rate.
    """
    with ExitStack() as programs:
        programs.enter_context(running(settings, "botify.streams.worker"))
        programs.enter_context(running(settings, "botify.services.recommender"))
        programs.enter_context(running(settings, "botify.services.gateway", environ=WITHOUT_DASHBOARD))
        load = [sys.executable, "-m", "botify.bench.gateway", port_of(settings), str(tracks)]
        load += ["--connections", str(CONNECTIONS), "--seconds", str(SECONDS)]
        run_listeners([*load, "--warm-up", str(COMPILE_S), "--seconds", "1"], COMPILE_S)
        # in turns, because a machine that others use is not the same a minute later
        runs = [(run_listeners(load), run_listeners([*load, "--slates"])) for _ in range(2)]
        following, slates = (_mean(of_kind) for of_kind in zip(*runs, strict=True))
        half = run_listeners([*load, "--slates", "--rate", str(slates["per_s"] / 2)])
    return {
        "gateway": _renamed(following, "next_per_s"),
        "gateway_v1": {
            **_renamed(slates, "recommendations_per_s"),
            "share_of_next": slates["per_s"] / following["per_s"],
            "half_p99_ms": half["p99_ms"],
            "half_fallbacks": half["fallbacks"],
        },
    }


def run_listeners(command: list[str], seconds: float = SECONDS) -> dict[str, Any]:
    """Run the listeners, and return what they print; one that does not end raises TimeoutExpired."""
    done = subprocess.run(  # noqa: S603 - our own program
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=seconds + LATE_S
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _mean(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the mean of each figure."""
    return {
        name: _mean([run[name] for run in runs]) if name == CPU_US else sum(run[name] for run in runs) / len(runs)
        for name in runs[0]
    }


def _renamed(figures: dict[str, Any], rate: str) -> dict[str, Any]:
    rest = {name: value for name, value in figures.items() if name not in ("per_s", CPU_US)}
    return {rate: figures["per_s"], **rest, "connections": float(CONNECTIONS), CPU_US: {rate: figures[CPU_US]}}


def port_of(settings: Settings) -> str:
    """Wait until the gateway is ready, and return its port."""
    log = wait_until_logged(settings, "botify.services.gateway", ": ready", READY_S)
    return str(re.findall(r"serving on http://[^:]+:(\d+)", log)[-1])


if __name__ == "__main__":
    typer.run(main)
