"""Cost of dashboard viewers for the loop. `python -m botify.bench.dashboard_load URL COUNT` opens pages as browsers do.

A page is fetched, then its websocket is opened and kept: Engine.IO 4 and Socket.IO 5, as in NiceGUI's own client. A
browser's drawing costs the server nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect

from botify.bench.cpu import CPU_US, Meter, medians
from botify.bench.loop import running, wait_until
from botify.core.settings import Settings
from botify.services.stack.ports import find_free
from botify.sim.loop import run_loop
from botify.sim.options import RunOptions
from botify.sim.world.model import World

PAGES = ("/", "/popular", "/experiments")
OPENED_PER_S = 50
_CLIENT_ID = re.compile(r"client_id\W+([0-9a-f-]{36})")


class Viewer:
    """One open page.

    Attributes
    ----------
    updates : int
        Messages with changed pieces of the page.
    """

    def __init__(self) -> None:
        self.updates = 0

    async def look(self, client: httpx.AsyncClient, url: str, page: str) -> None:
        """Open the page and stay until cancelled."""
        found = _CLIENT_ID.search((await client.get(url + page)).raise_for_status().text)
        if found is None:
            raise ValueError(f"{url}{page} is no page of NiceGUI's: it names no client")
        query = {
            "client_id": found[1],
            "tab_id": uuid.uuid4(),
            "document_id": uuid.uuid4(),
            "next_message_id": 0,
            "implicit_handshake": "true",
            "EIO": 4,
            "transport": "websocket",
        }
        address = f"{url.replace('http', 'ws', 1)}/_nicegui_ws/socket.io/?{urlencode(query)}"
        async with connect(address, max_size=None) as socket:
            async for message in socket:
                if message == "2":  # ping
                    await socket.send("3")
                elif message[:1] == "0":  # opened; join the default namespace
                    await socket.send("40")
                elif "dashboard.show" in str(message)[:80]:
                    self.updates += 1


async def main(url: str, count: int) -> None:
    """Open the pages, and keep them open until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    viewers = [Viewer() for _ in range(count)]
    async with httpx.AsyncClient(timeout=30) as client:
        looking = []
        for at, viewer in enumerate(viewers):
            looking.append(asyncio.create_task(viewer.look(client, url, PAGES[at % len(PAGES)])))
            await asyncio.sleep(1 / OPENED_PER_S)
        sys.stdout.write("open\n")
        sys.stdout.flush()
        began = [viewer.updates for viewer in viewers]
        began_s = asyncio.get_running_loop().time()
        await stop.wait()
        seconds = asyncio.get_running_loop().time() - began_s
        failed = [task for task in looking if task.done()]
        for task in looking:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*looking, return_exceptions=True)
    per_s = sorted((viewer.updates - before) / seconds for viewer, before in zip(viewers, began, strict=True))
    sys.stdout.write(json.dumps({"viewers": count - len(failed), "updates_per_s": per_s[len(per_s) // 2]}) + "\n")


class Period(NamedTuple):
    """Recommendations a second, and µs of CPU time of each process a recommendation."""

    per_s: float
    cpu_us: dict[str, float]


VIEWERS = 200
LISTENERS = 2_000
SECONDS = 15.0
ROUNDS = 3
"""Each round is one period without a gateway, one with an unwatched gateway and one with viewers, so that all three
see the same machine."""

READY_S = 60.0


def measure_dashboard(settings: Settings, world: World) -> dict[str, Any]:
    """Run the closed loop without a gateway, with one, and with viewers of its dashboard, in rounds.

    The viewers' program shares the machine, so its cost is included. The gateway's own cost is measured separately: it
    reads the answers and the dashboard's figures with or without viewers.

    Returns
    -------
    dict
        `viewers`, `updates_per_s` (of the median viewer); `without_per_s`, `unwatched_per_s` and `with_per_s`,
        recommendations a second; of the median round, `gateway_percent`, the cost of an unwatched gateway, and
        `cost_percent`, the cost of its viewers; `cpu_us` of the three rates.
    """
    seen: list[dict[str, float]] = []
    without, unwatched, watched = (list[Period]() for _ in range(3))
    with running(settings, "botify.streams.worker"), running(settings, "botify.services.recommender"):
        _loop(settings, world)  # warms up
        for _ in range(ROUNDS):
            without.append(_loop(settings, world))
            with _gateway(settings) as url:
                unwatched.append(_loop(settings, world))
                with _viewers(url) as reports:
                    watched.append(_loop(settings, world))
                seen += reports
    periods = {"without": without, "unwatched": unwatched, "with": watched}
    return {
        "viewers": min(report["viewers"] for report in seen),
        "updates_per_s": min(report["updates_per_s"] for report in seen),
        **{f"{name}_per_s": median(one.per_s for one in of_name) for name, of_name in periods.items()},
        "gateway_percent": _cost_percent(without, unwatched),
        "cost_percent": _cost_percent(unwatched, watched),
        CPU_US: {f"{name}_per_s": medians([one.cpu_us for one in of_name]) for name, of_name in periods.items()},
    }


def _cost_percent(before: Sequence[Period], after: Sequence[Period]) -> float:
    return 100 * (1 - median(late.per_s / early.per_s for early, late in zip(before, after, strict=True)))


def _loop(settings: Settings, world: World) -> Period:
    meter = Meter("simulator")
    result = run_loop(settings, world, RunOptions(seconds=SECONDS, in_flight=LISTENERS))
    return Period(result.recommendations / result.wall_s, meter.us_per(result.recommendations))


@contextmanager
def _gateway(settings: Settings) -> Iterator[str]:
    """Run a gateway inside the block, and yield the dashboard's address."""
    port = find_free()
    url = f"http://127.0.0.1:{port}/ui"
    with running(settings, "botify.services.gateway", environ={"BOTIFY_GATEWAY_PORT": str(port)}):
        wait_until(lambda: _is_served(f"{url}/"), READY_S, f"{url} is not served", every_s=0.2)
        yield url


@contextmanager
def _viewers(url: str) -> Iterator[list[dict[str, float]]]:
    """Keep viewers on the dashboard inside the block; their report is in the list after it."""
    reports: list[dict[str, float]] = []
    viewers = subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "botify.bench.dashboard_load", url, str(VIEWERS)], stdout=subprocess.PIPE, text=True
    )
    assert viewers.stdout is not None  # noqa: S101 - a pipe was asked for
    try:
        viewers.stdout.readline()  # all pages are open
        yield reports
    finally:
        viewers.terminate()
        output, _ = viewers.communicate(timeout=30)
    reports.append(json.loads(output))


def _is_served(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()  # noqa: S310
    except (urllib.error.URLError, OSError):
        return False
    return True


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
