"""Clients that wear a gateway out, in a process of their own."""

from __future__ import annotations

import asyncio
import random
import resource
from collections import Counter
from multiprocessing.connection import Connection
from typing import cast

import uvloop

HEAD = b"POST /next/1 HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
BEGINNINGS = {
    "idle": b"",
    "bodies": HEAD + b'Content-Length: 16000\r\n\r\n{"track": 1, "time": 0.5, "',
    "headers": HEAD + b"X-Slow: ",
    "flood": HEAD + b"X-Endless: ",
}
DRIP_S = 1.0
AGAIN_S = 0.5
"""How long one that was cut off waits at least; twice that at most."""
FLOODERS = 20
FLOOD_S = 0.005
"""How often they send, where all has been taken."""
SENT_AT_ONCE = b"a" * 65_536
SPARE_DESCRIPTORS = 100


class Client(asyncio.Protocol):
    def __init__(self, attack: Attack, kind: str) -> None:
        self._attack = attack
        self.kind = kind

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(BEGINNINGS[self.kind])
        self._attack.connected(self)

    def connection_lost(self, _: Exception | None) -> None:
        self._attack.lost(self)

    def send(self, data: bytes) -> bool:
        """Send more, unless something waits to be taken; return whether it was sent."""
        if self._transport.is_closing() or self._transport.get_write_buffer_size():
            return False
        self._transport.write(data)
        return True


class Attack:
    def __init__(self, port: int, counts: dict[str, int], flood_bytes: int) -> None:
        self._port = port
        self._counts = {**counts, "flood": FLOODERS if flood_bytes else 0}
        self._open: set[Client] = set()
        self._left = flood_bytes
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, seconds: float, tell: Connection) -> None:
        await asyncio.gather(*(self._connect(kind) for kind, count in self._counts.items() for _ in range(count)))
        tell.send("going")
        flooding = asyncio.create_task(self._flood())
        for _ in range(round(seconds / DRIP_S)):
            for client in list(self._open):
                if client.kind in ("bodies", "headers"):
                    client.send(b"a")
            await asyncio.sleep(DRIP_S)
        for task in (flooding, *self._tasks):
            task.cancel()
        await asyncio.gather(flooding, *self._tasks, return_exceptions=True)
        tell.send((Counter(client.kind for client in self._open), self._left))

    def connected(self, client: Client) -> None:
        self._open.add(client)

    def lost(self, client: Client) -> None:
        """Connect once more, unless a flooder has nothing left to send."""
        self._open.discard(client)
        if client.kind != "flood" or self._left:
            self._connect_later(client.kind)

    async def _flood(self) -> None:
        while self._left:
            for client in list(self._open):
                if client.kind == "flood" and client.send(SENT_AT_ONCE):
                    self._left = max(0, self._left - len(SENT_AT_ONCE))
            await asyncio.sleep(FLOOD_S)

    def _connect_later(self, kind: str) -> None:
        async def connect() -> None:
            await asyncio.sleep(FLOOD_S if kind == "flood" else AGAIN_S * (1 + random.random()))
            await self._connect(kind)

        task = asyncio.create_task(connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self, kind: str) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Client(self, kind), "127.0.0.1", self._port)
        except OSError:
            self._connect_later(kind)


def attack(port: int, counts: dict[str, int], flood_bytes: int, seconds: float, tell: Connection) -> None:
    """Attack a gateway of this machine; tell when all are connected, and at the end which are, and the bytes unsent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, sum(counts.values()) + FLOODERS + SPARE_DESCRIPTORS), hard))
    uvloop.run(Attack(port, counts, flood_bytes).run(seconds, tell))
