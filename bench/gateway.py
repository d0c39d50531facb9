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
from botify.bench.loop import start
from botify.core.settings import Settings

CONNECTIONS = 32  # each waits for its answer before it asks again, so at n a second the mean latency is 32 / n seconds
USERS, SESSION_TRACKS = 10_000, 8
_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)
_TRACK = re.compile(rb'"track":\s*(\d+)')


class Measured:
    """The measurements of all connections since the warm-up: latencies in s, of answered recommendations."""

    def __init__(self) -> None:
        self.warm = False
        self.latencies_s: list[float] = []
        self.fallbacks = self.failed = 0

    def update(self, latency_s: float, answer: bytes, *, is_next: bool) -> None:
        if not self.warm:
            return
        if int(answer[9:12]) != 200:
            self.failed += 1
        elif is_next:
            self.latencies_s.append(latency_s)
            self.fallbacks += b"x-botify-fallback" in answer or b'"fallback":true' in answer


class Listener(asyncio.Protocol):
    """One connection: listener after listener, each with some `/next` and a `/last`, or ten recommendations of `/v1`.

    Requests are sent every `every_s` seconds; with 0, as soon as the last one is answered.
    """

    def __init__(
        self, measured: Measured, number: int, tracks: int, *, slates: bool = False, every_s: float = 0.0
    ) -> None:
        self._measured = measured
        self._ask = self._ask_for_slate if slates else self._start_session
        self._slates, self._every_s = slates, every_s
        self._due_s = time.perf_counter() + random.Random(number).random() * every_s
        self._rng = random.Random(number)
        self._tracks = tracks
        self._buffer = b""
        self._left = 0
        self._track = self._user = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._when_due(self._ask)

    def _when_due(self, ask: Callable[[], None]) -> None:
        def ask_if_open() -> None:
            if not self._transport.is_closing():
                ask()

        if not self._every_s:
            ask_if_open()
            return
        self._due_s = max(self._due_s + self._every_s, time.perf_counter() - 1.0)
        asyncio.get_running_loop().call_later(max(0.0, self._due_s - time.perf_counter()), ask_if_open)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head)
        if not end or length is None or len(body) < int(length[1]):
            return
        is_next = self._slates or self._left > 0
        self._measured.update(time.perf_counter() - self._sent_s, self._buffer, is_next=is_next)
        self._buffer = b""
        if self._slates or not is_next:
            self._when_due(self._ask)
            return
        self._left -= 1
        if (track := _TRACK.search(body)) is not None:
            self._track = int(track[1])
        self._when_due(self._send_listen)

    def _ask_for_slate(self) -> None:
        user = self._rng.randrange(USERS)
        self._send(b"GET /v1/users/%d/recommendations?n=10 HTTP/1.1\r\nHost: gateway\r\n\r\n" % user)

    def _start_session(self) -> None:
        self._user, self._track = self._rng.randrange(USERS), self._rng.randrange(self._tracks)
        self._left = self._rng.randrange(1, 2 * SESSION_TRACKS)
        self._send_listen()

    def _send_listen(self) -> None:
        body = b'{"track":%d,"time":%.2f}' % (self._track, self._rng.random())
        self._send(
            b"POST /%s/%d HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (b"next" if self._left else b"last", self._user, len(body), body)
        )

    def _send(self, request: bytes) -> None:
        self._transport.write(request)  # type: ignore[attr-defined]
        self._sent_s = time.perf_counter()


async def listen(
    listener_of: Callable[[Measured, int], Listener], port: int, warm_up_s: float, seconds: float
) -> dict[str, Any]:
    loop, measured = asyncio.get_running_loop(), Measured()
    opened = [
        await loop.create_connection(partial(listener_of, measured, number), "127.0.0.1", port)
        for number in range(CONNECTIONS)
    ]
    await asyncio.sleep(warm_up_s)
    measured.warm, began_s = True, time.perf_counter()
    meter = Meter("listeners", psutil.Process(os.getppid()))
    await asyncio.sleep(seconds)
    measured.warm = False
    measured_s = time.perf_counter() - began_s
    cpu_us = meter.us_per(max(1, len(measured.latencies_s)))
    for transport, _ in opened:
        transport.close()
    latencies_ms = np.array(measured.latencies_s) * 1000
    return {
        "per_s": len(latencies_ms) / measured_s,
        "p50_ms": float(np.percentile(latencies_ms, 50)),
        "p99_ms": float(np.percentile(latencies_ms, 99)),
        "fallbacks": float(measured.fallbacks),
        "failed": float(measured.failed),
        CPU_US: cpu_us,
    }


def main(
    port: int, tracks: int, warm_up: float = 5.0, seconds: float = 30.0, rate: float = 0.0, *, slates: bool = False
) -> None:
    every_s = CONNECTIONS / rate if rate else 0.0
    listener_of = partial(Listener, tracks=tracks, slates=slates, every_s=every_s)
    json.dump(uvloop.run(listen(listener_of, port, warm_up, seconds)), sys.stdout)


SECONDS = 15.0  # of each of five measurements; with starting and compiling all of it takes two and a half minutes
LISTENERS_ONLY = {"BOTIFY_GATEWAY_DASHBOARD": "off", "BOTIFY_GATEWAY_RATE_PER_S": "1000000"}
LATE_S = 60.0  # by how much the listeners may exceed their time
COMPILE_S = 30.0  # while worker and recommender compile their loops, they compete with what is measured


def measure_gateway(settings: Settings, tracks: int) -> dict[str, dict[str, Any]]:
    """Run the listeners on worker, recommender and gateway, and return `gateway` and `gateway_v1`."""
    with ExitStack() as programs:
        start(programs, settings, "botify.streams.worker")
        start(programs, settings, "botify.services.recommender")
        _, port = start(programs, settings, "botify.services.gateway", LISTENERS_ONLY)
        run = partial(run_listeners, port, tracks)
        run(warm_up_s=COMPILE_S, seconds=1.0)
        # in turns, because a machine that others use is not the same a minute later
        runs = [(run(), run("--slates")) for _ in range(2)]
        following, slates = (_mean(of_kind) for of_kind in zip(*runs, strict=True))
        half = run("--slates", "--rate", str(slates["per_s"] / 2))
    return {
        "gateway": _renamed(following, "next_per_s"),
        "gateway_v1": {
            **_renamed(slates, "recommendations_per_s"),
            "share_of_next": slates["per_s"] / following["per_s"],
            "half_p99_ms": half["p99_ms"],
        },
    }


def run_listeners(
    port: int, tracks: int, *options: str, warm_up_s: float = 5.0, seconds: float = SECONDS
) -> dict[str, Any]:
    """Run the listeners, and return the figures that they print; `TimeoutExpired` if they do not end."""
    command = [sys.executable, "-m", "botify.bench.gateway", str(port), str(tracks), *options]
    command += ["--warm-up", str(warm_up_s), "--seconds", str(seconds)]
    timeout_s = warm_up_s + seconds + LATE_S
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=timeout_s)  # noqa: S603 - ours
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _mean(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        name: _mean([run[name] for run in runs]) if name == CPU_US else sum(run[name] for run in runs) / len(runs)
        for name in runs[0]
    }


def _renamed(figures: dict[str, Any], rate: str) -> dict[str, Any]:
    rest = {name: value for name, value in figures.items() if name not in ("per_s", CPU_US)}
    return {rate: figures["per_s"], **rest, "connections": float(CONNECTIONS), CPU_US: {rate: figures[CPU_US]}}


if __name__ == "__main__":
    typer.run(main)
