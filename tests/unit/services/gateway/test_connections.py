"""Slow and silent connections are closed for new ones, and no others."""

import asyncio
from dataclasses import dataclass, field

from botify.services.gateway import Bounds, GatewayOptions
from botify.services.gateway.connections import STUCK_S, ConnectionGroup, Connections, Stage
from tests.support import Clock


@dataclass(eq=False)
class Client:
    """A connection that notes what is done to it."""

    address: str = "10.0.0.7"
    stage: Stage = Stage.HEADERS
    since_s: float = 0.0
    group: ConnectionGroup | None = None
    told: list[int] = field(default_factory=list)
    dropped: bool = False

    def refuse(self, reason: str, status: int, detail: str) -> None:
        self.told.append(status)

    def drop(self) -> None:
        self.dropped = True

    def is_closing(self) -> bool:
        return self.dropped or bool(self.told)


def opened(connections: Connections, count: int, address: str = "10.0.0.7") -> list[Client]:
    clients = [Client(address) for _ in range(count)]
    assert all(connections.open(client) for client in clients)
    return clients


def has_asked(connections: Connections, *clients: Client) -> None:
    for client in clients:
        connections.enter(client, Stage.ANSWER)
        connections.enter(client, Stage.REQUEST)


def test_the_longest_silent_connection_is_closed_for_a_new_one() -> None:
    connections = Connections(GatewayOptions(connections_per_client=4), Bounds(connections=4))
    silent = opened(connections, 4)
    connections.enter(silent[0], Stage.BODY)  # slow is no better than silent
    opened(connections, 2, "10.0.0.8")
    assert [client.dropped for client in silent] == [True, True, False, False]
    assert len(connections) == 4
    assert connections.closed == {"idlest": 2}


def test_a_new_client_has_time_to_send_a_request() -> None:
    connections = Connections(GatewayOptions(connections_per_client=10), Bounds(connections=10))
    kept = opened(connections, 10)
    has_asked(connections, *kept)
    new = opened(connections, 5)
    assert not any(client.dropped for client in new)
    assert [client.dropped for client in kept] == [True] * 5 + [False] * 5


def test_a_client_loses_its_own_connections_first() -> None:
    connections = Connections(GatewayOptions(), Bounds(connections=8))  # so 4 of each client
    other = opened(connections, 2, "10.0.0.8")
    greedy = opened(connections, 20)
    assert not any(client.dropped for client in other)
    assert sum(not client.dropped for client in greedy) == 4


def test_requests_in_progress_finish_unless_they_are_stuck() -> None:
    clock = Clock(100.0)
    connections = Connections(GatewayOptions(connections_per_client=2, deadline_ms=1_000), Bounds(connections=2), clock)
    first, second = opened(connections, 2)
    connections.enter(first, Stage.ANSWER)
    connections.enter(second, Stage.ANSWER)
    assert not connections.open(Client())
    assert not connections.open(Client("10.0.0.8"))
    clock.now_s += 1.0 + STUCK_S
    assert connections.open(Client())
    assert (first.dropped, second.dropped) == (True, False)


def test_too_many_bodies_cost_the_oldest_its_place() -> None:
    connections = Connections(GatewayOptions(), Bounds(bodies=3, bodies_per_client=2))
    mine, others = opened(connections, 3), opened(connections, 2, "10.0.0.8")
    for client in (*mine, *others):
        connections.enter(client, Stage.BODY)
    assert [client.told for client in mine] == [[503], [503], []]
    assert [client.told for client in others] == [[], []]


def test_each_stage_has_its_timeout() -> None:
    clock = Clock(100.0)
    connections = Connections(GatewayOptions(deadline_ms=60_000), Bounds(header_s=2, body_s=4, keep_alive_s=6), clock)
    new, slow, kept, working = opened(connections, 4)
    connections.enter(slow, Stage.BODY)
    has_asked(connections, kept)
    connections.enter(working, Stage.ANSWER)
    over = []
    for _ in range(8):
        clock.now_s += 1.0
        asyncio.run(connections.sweep())
        over.append((bool(new.told), bool(slow.told), kept.dropped, working.is_closing()))
    assert over.index((True, False, False, False)) == 2
    assert over.index((True, True, False, False)) == 4
    assert over.index((True, True, True, False)) == 6
    assert new.told[0] == slow.told[0] == 408


def test_closed_connections_leave_nothing_behind() -> None:
    connections = Connections(GatewayOptions(), Bounds())
    gone, ended, open_ = opened(connections, 3)
    connections.close(gone)
    connections.enter(gone, Stage.ANSWER)  # its application has not heard yet
    connections.close(gone)
    connections.enter(ended, Stage.ANSWER)
    ended.drop()  # as a websocket ends
    asyncio.run(connections.sweep())
    assert len(connections) == 1
    connections.close(open_)
    assert len(connections) == 0
    assert connections.clients == 0
