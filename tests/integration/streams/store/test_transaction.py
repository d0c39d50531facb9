"""Invariant: what happens to a checkpoint after it was looked at keeps EXEC from writing."""

import asyncio
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from botify.core.settings import Settings
from botify.services.stack.embedded import Valkey
from botify.services.stack.ports import HOST, find_free
from botify.services.stack.record import Watchdog
from botify.streams.folds.projection import Changes
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import checkpoint_key, partition_key
from botify.streams.store.node import write_guarded
from botify.streams.store.protocol import Outcome
from botify.streams.store.redis_store import RedisStore
from tests.store_contract import StoreContract
from tests.support import eventually


class Scene:
    """A claimed partition, a client that looks at its checkpoint, and another client that interferes."""

    def __init__(self, servers: Settings, run: Any) -> None:
        self.namespace = f"test-{uuid.uuid4().hex[:8]}"
        self.checkpoint = checkpoint_key(self.namespace, 0)
        self.field = partition_key(self.namespace, 0, "h")
        self.redis, self.other = connect_async(servers), connect(servers)
        self.store = RedisStore(self.redis, self.namespace)
        self.run = run
        self.looks: list[Sequence[bytes | None]] = []
        self.claim = run(self.store.claim(0, "me", "t"))
        self.connection = run(self.redis.client_id())  # one at a time is in use, so the pool has this one only

    def write(self, meanwhile: Callable[[], object], outcomes: Sequence[Outcome] = (Outcome.APPLIED,)) -> Outcome:
        """Write under a judge that lets `meanwhile` happen after its first look."""

        def judge(stored: Sequence[bytes | None]) -> Outcome:
            self.looks.append(stored)
            if len(self.looks) == 1:
                meanwhile()
            return outcomes[min(len(self.looks), len(outcomes)) - 1]

        outcome: Outcome = self.run(
            write_guarded(self.redis, self.checkpoint, judge, [("HSET", self.field, "x", 1)], 7)
        )
        return outcome

    def cut_the_watching(self) -> None:
        assert self.other.client_kill_filter(_id=str(self.connection)) == 1


@pytest.fixture
def scene(servers: Settings, run: Any) -> Iterator[Scene]:
    scene = Scene(servers, run)
    yield scene
    run(scene.redis.aclose())
    scene.other.close()


def test_nothing_that_happens_lets_the_writes_pass(scene: Scene) -> None:
    assert scene.write(lambda: None) is Outcome.APPLIED
    assert scene.other.hgetall(scene.field) == {b"x": b"1"}
    assert scene.other.hget(scene.checkpoint, "next_offset") == b"7"


@pytest.mark.parametrize(
    "interfere",
    [
        pytest.param(lambda scene: scene.other.hincrby(scene.checkpoint, "epoch", 1), id="claimed"),
        pytest.param(lambda scene: scene.other.hset(scene.checkpoint, "next_offset", 3), id="moved"),
        pytest.param(lambda scene: scene.other.delete(scene.checkpoint), id="emptied"),
        pytest.param(lambda scene: scene.cut_the_watching(), id="connection lost"),
    ],
)
def test_a_checkpoint_is_looked_at_again_after(scene: Scene, interfere: Callable[[Scene], object]) -> None:
    assert scene.write(lambda: interfere(scene), (Outcome.APPLIED, Outcome.FENCED)) is Outcome.FENCED
    assert len(scene.looks) == 2
    assert scene.other.hgetall(scene.field) == {}


def test_a_try_after_a_lost_connection_writes_once(scene: Scene) -> None:
    assert scene.write(scene.cut_the_watching) is Outcome.APPLIED
    assert scene.other.hgetall(scene.field) == {b"x": b"1"}


def test_an_outcome_without_writes_leaves_a_connection_that_watches_nothing(scene: Scene) -> None:
    assert scene.write(lambda: None, (Outcome.ROLLED_BACK,)) is Outcome.ROLLED_BACK
    scene.other.hset(scene.checkpoint, "next_offset", 3)
    transaction = scene.redis.pipeline(transaction=True)
    transaction.get(scene.namespace)
    assert scene.run(transaction.execute()) == [None]  # the same connection: a watch would make it fail


def test_an_error_within_the_transaction_is_raised(scene: Scene) -> None:
    scene.other.set(scene.field, "no hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        scene.write(lambda: None)


class OneNode(Valkey):
    """A server of the test's own; with `clustered`, a cluster of one node."""

    def __init__(self, home: Path, watchdog: Watchdog, *, clustered: bool = False) -> None:
        super().__init__(home, port=find_free(), watchdog=watchdog)
        if clustered:
            self._argv += ["--cluster-enabled", "yes", "--cluster-port", str(find_free(frozenset([self.port])))]


@contextmanager
def one_node(home: Path, *, clustered: bool = False) -> Iterator[OneNode]:
    watchdog = Watchdog()
    node = OneNode(home, watchdog, clustered=clustered)
    try:
        node.start()
        yield node
    finally:
        node.stop()
        watchdog.close()


SLOTS = 16_384


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with one_node(tmp_path_factory.mktemp("cluster"), clustered=True) as node:
        with redis.Redis(port=node.port) as client:
            client.execute_command("CLUSTER ADDSLOTSRANGE", 0, SLOTS - 1)
            eventually(lambda: client.cluster("INFO")["cluster_state"] == "ok")
        yield Settings(redis_url=f"redis+cluster://{HOST}:{node.port}")


class TestOnACluster(StoreContract):
    """The contract on a Redis Cluster, all of whose slots are one node's."""

    @pytest.fixture(params=[pytest.param(10**9, id="scripts"), pytest.param(0, id="transactions")])
    def store(self, cluster: Settings, loop: Any, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        redis = connect_async(cluster)
        yield RedisStore(redis, f"test-{uuid.uuid4().hex[:8]}", script_arguments=request.param)
        loop.run(redis.aclose())


class TestRedisStore(StoreContract):
    """Applies as scripts, and as transactions."""

    @pytest.fixture
    def namespace(self) -> str:
        return f"test-{uuid.uuid4().hex[:8]}"

    @pytest.fixture(params=[pytest.param(10**9, id="scripts"), pytest.param(0, id="transactions")])
    def store(
        self, servers: Settings, namespace: str, loop: asyncio.Runner, request: pytest.FixtureRequest
    ) -> Iterator[RedisStore]:
        redis = connect_async(servers)
        yield RedisStore(redis, namespace, script_arguments=request.param)
        loop.run(redis.aclose())

    def test_all_keys_of_a_partition_share_a_slot(
        self, run: Any, store: RedisStore, namespace: str, servers: Settings
    ) -> None:
        claim = run(store.claim(3, "a", "t"))
        run(store.apply(3, claim, None, 1, Changes({"h": {b"x": b"1"}}, {"z": {b"m": 1.0}})))
        with connect(servers) as redis:
            keys = list(redis.scan_iter(f"*{namespace}*"))
        assert len(keys) == 3
        assert all(key.startswith(b"{%s:3}:" % namespace.encode()) for key in keys)

    def test_a_store_that_was_emptied_fences(
        self, run: Any, store: RedisStore, namespace: str, servers: Settings
    ) -> None:
        claim = run(store.claim(0, "a", "t"))
        run(store.apply(0, claim, None, 1, Changes()))
        with connect(servers) as redis:
            redis.delete(checkpoint_key(namespace, 0))
        assert run(store.apply(0, claim, 1, 2, Changes({"h": {b"x": b"1"}}))) is Outcome.FENCED
