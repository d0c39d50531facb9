"""Invariant: a frozen master of a Redis Cluster costs its listeners a few seconds after its replica took over."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import redis

from core.settings import Settings
from services.stack.embedded import Valkey
from services.stack.ports import HOST, find_free
from services.stack.watchdog import Watchdog
from streams.store.keys import checkpoint_key, default_namespace
from tests.chaos.programs import Program
from tests.chaos.whole import caught_up
from tests.integration.services.gateway.conftest import ready, start
from tests.support import eventually, offline_fold, redis_contents

MASTERS = 3
SLOTS = 16_384
NODE_TIMEOUT_MS = 2_000
SERVED_AGAIN_S = 5.0
USERS = 24


class Node(Valkey):
    """One node of a cluster."""

    def __init__(self, home: Path, watchdog: Watchdog) -> None:
        port = find_free()
        super().__init__(home, port=port, watchdog=watchdog)
        self.bus_port = find_free(frozenset([port]))
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(NODE_TIMEOUT_MS),
            "cluster-replica-validity-factor": "0",  # however far behind a replica is, it takes over
            "repl-diskless-sync-delay": "0",
        }
        self._argv += [part for name, value in options.items() for part in (f"--{name}", value)]
        self.client = redis.Redis(host=HOST, port=port, decode_responses=True, socket_timeout=5.0)

    def info(self, section: str, name: str) -> object:
        """Return a figure of `INFO` or `CLUSTER INFO`."""
        told = self.client.cluster("INFO") if section == "cluster" else self.client.info(section)
        return told[name]


class Cluster:
    """Three masters, each with a replica."""

    def __init__(self, home: Path, watchdog: Watchdog) -> None:
        self.nodes = [Node(home / str(number), watchdog) for number in range(2 * MASTERS)]
        self.url = f"redis+cluster://{HOST}:{self.nodes[-1].port}"  # never a master that is frozen

    def start(self) -> None:
        """Start the nodes and join them."""
        for node in self.nodes:
            node.start()
        first, *others = self.nodes
        for node in others:
            first.client.execute_command("CLUSTER MEET", HOST, node.port, node.bus_port)
        masters, replicas = self.nodes[:MASTERS], self.nodes[MASTERS:]
        for number, master in enumerate(masters):
            begin, end = number * SLOTS // MASTERS, (number + 1) * SLOTS // MASTERS - 1
            master.client.execute_command("CLUSTER ADDSLOTSRANGE", begin, end)
        eventually(lambda: all(node.info("cluster", "cluster_known_nodes") == "6" for node in self.nodes))
        for master, replica in zip(masters, replicas, strict=True):
            replica.client.execute_command("CLUSTER REPLICATE", master.client.execute_command("CLUSTER MYID"))
        eventually(lambda: all(replica.info("replication", "master_link_status") == "up" for replica in replicas))
        eventually(lambda: all(node.info("cluster", "cluster_state") == "ok" for node in self.nodes))

    def stop(self) -> None:
        """Stop the nodes, frozen ones too."""
        for node in self.nodes:
            node.client.close()
            node.kill()

    def pair_of(self, key: str) -> tuple[Node, Node]:
        """Return the master that has a key's slot, and its replica."""
        number = self.nodes[-1].client.cluster("KEYSLOT", key) * MASTERS // SLOTS
        return self.nodes[number], self.nodes[number + MASTERS]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    watchdog = Watchdog()
    cluster = Cluster(tmp_path / "cluster", watchdog)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        watchdog.close()


class Listeners:
    """Listeners whose sessions lie on all masters, each asking once a round, all at the same time."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(USERS)

    def ask(self) -> list[httpx.Response]:
        """Return the answers of a round."""
        answers = list(self._pool.map(self._ask, range(USERS)))
        assert {answer.status_code for answer in answers} <= {200, 503}
        return answers

    def served(self, *, by_the_recommender: bool = False) -> bool:
        """Whether all listeners get a track."""
        answers = self.ask()
        fallback = any("x-botify-fallback" in answer.headers for answer in answers)
        return all(answer.status_code == 200 for answer in answers) and not (by_the_recommender and fallback)

    def _ask(self, user: int) -> httpx.Response:
        return self._client.post(f"/next/{user}", json={"track": user % 7, "time": 0.5}, timeout=10.0)


def test_a_master_is_frozen(settings: Settings, cluster: Cluster) -> None:
    settings = settings.with_(redis_url=cluster.url)
    master, replica = cluster.pair_of(checkpoint_key(default_namespace(settings.topic_prefix), 0))
    programs = [Program(settings, f"{module}", module) for module in ("services.recommender", "streams.worker")]
    with ExitStack() as stack:
        for program in programs:
            stack.callback(program.stop)
        client = start(stack, settings, "gateway", DEADLINE_MS=1_000)
        eventually(lambda: ready(client), what=lambda: client.get("/readyz").text)
        listeners = Listeners(client)
        eventually(lambda: listeners.served(by_the_recommender=True), 60)

        master.pause()
        refused = eventually(lambda: not listeners.served() and client.get("/readyz"), 10)
        assert refused.status_code == 503
        assert "Redis does not answer" in refused.text
        eventually(lambda: replica.info("replication", "role") == "master", 30)
        eventually(lambda: replica.info("cluster", "cluster_state") == "ok", 10)
        took_over_s = time.monotonic()

        eventually(listeners.served, SERVED_AGAIN_S, "listeners are served again")
        print(f"served again {time.monotonic() - took_over_s:.1f} s after the replica took over")
        assert all(listeners.served() for _ in range(3))
        eventually(lambda: ready(client), SERVED_AGAIN_S, lambda: client.get("/readyz").text)
        eventually(lambda: listeners.served(by_the_recommender=True), 15, "the recommender answers again")
        print(f"by the recommender after {time.monotonic() - took_over_s:.1f} s")
        caught_up(settings, 30)
        print(f"folded after {time.monotonic() - took_over_s:.1f} s")
        assert redis_contents(settings) == offline_fold(settings).contents()
        assert all(program.running for program in programs)
