"""`python -m bench.viewers URL COUNT`: opens dashboard pages as browsers do, until stopped, and says what arrived.

A page is fetched, then its websocket is opened and kept: Engine.IO 4 and Socket.IO 5, as NiceGUI's own client speaks
them. What a browser does beyond that, drawing, costs the server nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import sys
import uuid
from urllib.parse import urlencode

import httpx
from websockets.asyncio.client import connect

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
    """Open the pages, and look at them until SIGTERM."""
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


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
