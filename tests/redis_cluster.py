"""A Redis Cluster of embedded Valkeys whose slots are migrated, and whose masters fail over."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from botify.services.stack.embedded import Valkey
from botify.services.stack.ports import HOST, find_free
from botify.services.stack.record import Watchdog
from tests.support import eventually

SLOTS = 16_384
SETTLED_S = 30.0
MIGRATE_TIMEOUT_MS = 5_000


class Node(Valkey):
    def __init__(self, home: Path, watchdog: Watchdog, node_timeout_ms: int) -> None:
        port = find_free()
        super().__init__(home, port=port, watchdog=watchdog)
        self.bus_port = find_free(frozenset([port]))
        options = {
            "cluster-enabled": "yes",
            "cluster-port": str(self.bus_port),
            "cluster-node-timeout": str(node_timeout_ms),
            "cluster-replica-validity-factor": "0",  # however far behind a replica is, it takes over
            "cluster-require-full-coverage": "no",  # the other masters go on serving
            "repl-diskless-sync-delay": "0",
        }
        self._argv += [part for name, value in options.items() for part in (f"--{name}", value)]
        once = Retry(NoBackoff(), retries=1)  # a connection to the process before this one was lost with it
        self.client = redis.Redis(host=HOST, port=port, decode_responses=True, socket_timeout=5.0, retry=once)

    @property
    def id(self) -> str:
        return str(self.client.execute_command("CLUSTER MYID"))

    def info(self, section: str, name: str) -> object:
        told = self.client.cluster("INFO") if section == "cluster" else self.client.info(section)
        return told[name]

    def view(self) -> dict[str, Any]:
        """Return what it knows of itself: `flags`, `master_id` and `slots` among others."""
        return next(line for line in self.client.cluster("NODES").values() if "myself" in line["flags"])

    @property
    def is_master(self) -> bool:
        return "master" in self.view()["flags"]

    def has(self, slot: int) -> bool:
        view = self.view()
        ranges = [(int(part[0]), int(part[-1])) for part in view["slots"]]
        return "master" in view["flags"] and any(first <= slot <= last for first, last in ranges)


class Cluster:
    """Masters that share the slots, each with a replica or none, and masters without slots."""

    def __init__(
        self,
        home: Path,
        watchdog: Watchdog,
        *,
        masters: int = 3,
        replicas: bool = True,
        empty: int = 0,
        node_timeout_ms: int = 2_000,
    ) -> None:
        self._masters, self._empty = masters, empty
        self._with_replicas = masters * (2 if replicas else 1)
        count = self._with_replicas + empty
        self.nodes = [Node(home / str(number), watchdog, node_timeout_ms) for number in range(count)]

    @property
    def url(self) -> str:
        """Address for clients: that of the last node."""
        return f"redis+cluster://{HOST}:{self.nodes[-1].port}"

    def start(self) -> None:
        for node in self.nodes:
            node.spawn()
        for node in self.nodes:
            node.wait_until_ready()
        first, *others = self.nodes
        for node in others:
            first.client.execute_command("CLUSTER MEET", HOST, node.port, node.bus_port)
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters : self._with_replicas]
        for number, master in enumerate(masters):
            begin, end = number * SLOTS // self._masters, (number + 1) * SLOTS // self._masters - 1
            master.client.execute_command("CLUSTER ADDSLOTSRANGE", begin, end)
        known = str(len(self.nodes))
        eventually(lambda: all(node.info("cluster", "cluster_known_nodes") == known for node in self.nodes))
        for master, replica in zip(masters, replicas, strict=False):
            replica.client.execute_command("CLUSTER REPLICATE", master.id)
        self.settle()

    def settle(self) -> None:
        masters = self._masters + self._empty  # one more is back, and does not know yet that it lost its slots

        def settled() -> bool:
            return all(map(_is_settled, self.nodes)) and sum(node.is_master for node in self.nodes) == masters

        eventually(settled, SETTLED_S)

    def stop(self) -> None:
        for node in self.nodes:
            node.client.close()
            node.kill()

    def slot_of(self, key: str) -> int:
        return int(self.nodes[-1].client.cluster("KEYSLOT", key))

    def master_of(self, slot: int) -> Node:
        def owners() -> list[Node]:
            return [node for node in self.nodes if node.running and node.has(slot)]

        eventually(lambda: len(owners()) == 1, SETTLED_S, f"one master has slot {slot}")
        return owners()[0]

    def replica_of(self, master: Node) -> Node:
        master_id = master.id
        (replica,) = (node for node in self.nodes if node.running and node.view()["master_id"] == master_id)
        return replica

    def migrate(self, slot: int, to: Node) -> None:
        self.master_of(slot).client.execute_command("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", to.id)
        eventually(lambda: to.has(slot), SETTLED_S, f"slot {slot} is migrated")

    def migrate_by_keys(self, slot: int, to: Node) -> None:
        """Migrate a slot key by key, as `--cluster reshard` does with Redis."""
        source = self.master_of(slot)
        self.begin_migration(slot, to)
        while keys := source.client.cluster("GETKEYSINSLOT", slot, 1):
            self.migrate_keys(source, to, keys)
        self.end_migration(slot, to)

    def begin_migration(self, slot: int, to: Node) -> None:
        source = self.master_of(slot)
        to.client.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source.id)
        source.client.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", to.id)

    def migrate_keys(self, source: Node, to: Node, keys: Sequence[str]) -> None:
        source.client.migrate(HOST, to.port, list(keys), 0, MIGRATE_TIMEOUT_MS)

    def end_migration(self, slot: int, to: Node) -> None:
        """Make a node the slot's master, on all nodes, and wait until they know each other's epochs.

        A new master takes the highest epoch that it knows of, and one more. If a node has just taken a higher one with
        another slot, what it sent before outdoes the new master: each then says of the other that it has the slot, for
        good (`valkey-cli --cluster fix` mends that).
        """
        masters = [node for node in self.nodes if node is not to and node.running and node.is_master]
        for node in (to, *masters):
            node.client.execute_command("CLUSTER SETSLOT", slot, "NODE", to.id)
        views = [to, *masters]
        eventually(lambda: len({_epochs_of(node) for node in views}) == 1, SETTLED_S, "masters agree on epochs")


def _epochs_of(node: Node) -> frozenset[tuple[str, str]]:
    lines = node.client.cluster("NODES").values()
    return frozenset((line["node_id"], line["epoch"]) for line in lines if "master" in line["flags"])


def _is_settled(node: Node) -> bool:
    for line in node.client.cluster("NODES").values():
        if not line["connected"] or {"fail", "fail?", "handshake"} & set(line["flags"].split(",")):
            return False
    linked = node.is_master or node.info("replication", "master_link_status") == "up"
    return linked and node.info("cluster", "cluster_state") == "ok"


@contextmanager
def running_cluster(home: Path, **options: Any) -> Iterator[Cluster]:
    watchdog = Watchdog()
    cluster = Cluster(home, watchdog, **options)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        watchdog.close()
