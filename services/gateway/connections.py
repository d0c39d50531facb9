"""How many connections there may be, how long each may keep the gateway waiting, and which of them goes first.

Where there is no room for a new connection, one that is silent or slow makes room: the one that has been so for
longest, of those that never had a whole request or of those that had one, whichever are more. So clients that ask for
something get in and stay, however many there are that do not. A client, that is an address, makes room among its own
first.
"""

from __future__ import annotations

import enum
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from services.gateway.options import GatewayOptions

STUCK_S = 10.0
"""How much longer than the deadline an answer may take before its connection may be closed to make room."""


class Stage(enum.Enum):
    """What a connection waits for."""

    REQUEST = "request"
    """The next request of a connection that was kept alive; nothing of it has come."""
    HEADERS = "headers"
    BODY = "body"
    ANSWER = "answer"
    """The request is whole, and the gateway works on it; or it is a websocket."""


class Connection(Protocol):
    """A connection, as its bounds see it.

    Attributes
    ----------
    address : str
        The client's.
    stage : Stage
    since_s : float
        When it came to its stage, on the monotonic clock.
    share : Share | None
        The client's; None where the connection is not counted, or not any more.
    """

    address: str
    stage: Stage
    since_s: float
    share: Share | None

    def refuse(self, reason: str, status: int, detail: str) -> None:
        """Close it with an answer, if one may be given; at once, if it is being closed already."""

    def drop(self) -> None:
        """Close it at once."""

    def is_closing(self) -> bool:
        """Say whether it is closed, or about to be."""


class Share:
    """Connections of one client, or of all; each group begins with the one that has been in it longest.

    Parameters
    ----------
    connections, bodies : int
        The most there may be.
    """

    __slots__ = ("bodies", "most", "most_bodies", "new", "waiting", "working")

    def __init__(self, connections: int, bodies: int) -> None:
        self.most = connections
        self.most_bodies = bodies
        self.new: dict[Connection, None] = {}  # without a whole request so far
        self.waiting: dict[Connection, None] = {}  # since the last answer, for a request or the rest of it
        self.working: dict[Connection, None] = {}
        self.bodies: dict[Connection, None] = {}  # those of the new and the waiting that have one under way

    def __len__(self) -> int:
        return len(self.new) + len(self.waiting) + len(self.working)

    def idlest(self) -> Connection:
        """Return the one that makes room."""
        idle = self.new if len(self.new) >= len(self.waiting) else self.waiting
        return next(iter(idle or self.working))

    def move(self, connection: Connection, before: Stage, stage: Stage) -> None:
        """Note that a connection has come to another stage."""
        if before is Stage.BODY:
            self.bodies.pop(connection, None)
        if stage is Stage.ANSWER:
            self.new.pop(connection, None)
            self.waiting.pop(connection, None)
            self.working[connection] = None
        elif before is Stage.ANSWER:
            self.working.pop(connection, None)
            self.waiting[connection] = None
        if stage is Stage.BODY:
            self.bodies[connection] = None

    def remove(self, connection: Connection) -> None:
        """Forget a connection."""
        for group in (self.new, self.waiting, self.working, self.bodies):
            group.pop(connection, None)


class Connections:
    """All open connections.

    Parameters
    ----------
    options : GatewayOptions
    clock : callable
        Monotonic, in seconds.

    Attributes
    ----------
    options : GatewayOptions
    closed : Counter of str
        Why connections were closed, and how many for that reason.
    """

    def __init__(self, options: GatewayOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self.options = options
        self.closed: Counter[str] = Counter()
        self._clock = clock
        self._all = Share(options.connections, options.bodies)
        self._clients: dict[str, Share] = {}
        self._most_of_a_client = options.connections_per_client or max(1, options.connections // 2)
        self._patience_s = {
            Stage.REQUEST: options.keep_alive_s,
            Stage.HEADERS: options.header_s,
            Stage.BODY: options.body_s,
        }
        self._stuck_s = options.deadline_ms / 1000 + STUCK_S

    def __len__(self) -> int:
        return len(self._all)

    def open(self, connection: Connection) -> bool:
        """Count a new connection, which may cost the idlest its place; return whether there is room."""
        share = self._clients.get(connection.address)
        if share is None:
            share = Share(self._most_of_a_client, self.options.bodies_per_client)
        if not (self._has_room(share) and self._has_room(self._all)):
            return False
        self._clients[connection.address] = connection.share = share
        connection.stage, connection.since_s = Stage.HEADERS, self._clock()
        share.new[connection] = self._all.new[connection] = None
        return True

    def enter(self, connection: Connection, stage: Stage) -> None:
        """Note that a connection has come to another stage; a body too many costs the oldest one its place."""
        share = connection.share
        if share is None:
            return
        before, connection.stage, connection.since_s = connection.stage, stage, self._clock()
        share.move(connection, before, stage)
        self._all.move(connection, before, stage)
        if stage is Stage.BODY:
            self._bound_bodies(share, f" of {connection.address}")
            self._bound_bodies(self._all, "")

    def close(self, connection: Connection) -> None:
        """Forget a connection that is closed."""
        share, connection.share = connection.share, None
        if share is None:
            return
        share.remove(connection)
        self._all.remove(connection)
        if not len(share):
            del self._clients[connection.address]

    async def sweep(self) -> None:
        """Close what has kept the gateway waiting for too long; to be called each second."""
        now_s = self._clock()
        for connection in [*self._all.new, *self._all.waiting]:
            patience_s = self._patience_s[connection.stage]
            if now_s - connection.since_s <= patience_s:
                continue
            if connection.stage is Stage.REQUEST:
                connection.drop()
            else:
                what = connection.stage.value
                connection.refuse(f"{what}_late", 408, f"the {what} took longer than {patience_s} s")
        for connection in [*self._all.working]:
            if connection.is_closing():  # a websocket that has ended says so to nobody else
                self.close(connection)

    def _has_room(self, share: Share) -> bool:
        if len(share) < share.most:
            return True
        idlest = share.idlest()
        if idlest.stage is Stage.ANSWER and self._clock() - idlest.since_s < self._stuck_s:
            return False
        self.closed["idlest"] += 1
        self.close(idlest)
        idlest.drop()
        return True

    def _bound_bodies(self, share: Share, whose: str) -> None:
        if len(share.bodies) > share.most_bodies:
            oldest = next(iter(share.bodies))
            for holder in (oldest.share, self._all):
                if holder is not None:
                    holder.bodies.pop(oldest)
            oldest.refuse("bodies", 503, f"more than {share.most_bodies} bodies{whose} are under way")
