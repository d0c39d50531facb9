"""Invariant: what happens to a checkpoint after it was looked at keeps EXEC from writing."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from redis.exceptions import ResponseError

from botify.core.settings import Settings
from botify.streams.folds.projection import Changes
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import checkpoint_key, partition_key
from botify.streams.store.node import write_guarded
from botify.streams.store.protocol import Outcome
from botify.streams.store.redis_store import RedisStore
from tests.redis_cluster import running_cluster
from tests.store_contract import StoreContract


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

        return self.run(write_guarded(self.redis, self.checkpoint, judge, [("HSET", self.field, "x", 1)], 7))

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


APPLIES = [pytest.param(10**9, id="scripts"), pytest.param(0, id="transactions")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    with running_cluster(tmp_path_factory.mktemp("cluster"), masters=1, replicas=False) as cluster:
        yield Settings(redis_url=cluster.url)


class TestOnACluster(StoreContract):
    """The contract on a Redis Cluster, all of whose slots are one node's."""

    @pytest.fixture(params=APPLIES)
    def store(self, cluster: Settings, loop: Any, request: pytest.FixtureRequest) -> Iterator[RedisStore]:
        redis = connect_async(cluster)
        yield RedisStore(redis, f"test-{uuid.uuid4().hex[:8]}", script_arguments=request.param)
        loop.run(redis.aclose())


class TestRedisStore(StoreContract):
    """Applies as scripts, and as transactions."""

    @pytest.fixture(params=APPLIES)
    def store(self, scene: Scene, request: pytest.FixtureRequest) -> RedisStore:
        return RedisStore(scene.redis, f"{scene.namespace}-contract", script_arguments=request.param)

    def test_all_keys_of_a_partition_share_a_slot(self, scene: Scene, run: Any, store: RedisStore) -> None:
        claim = run(store.claim(3, "a", "t"))
        run(store.apply(3, claim, None, 1, Changes({"h": {b"x": b"1"}}, {"z": {b"m": 1.0}})))
        keys = list(scene.other.scan_iter(f"*{scene.namespace}-contract*"))
        assert len(keys) == 3
        assert all(key.startswith(b"{%s-contract:3}:" % scene.namespace.encode()) for key in keys)

    def test_a_store_that_was_emptied_fences(self, scene: Scene, run: Any, store: RedisStore) -> None:
        claim = run(store.claim(0, "a", "t"))
        run(store.apply(0, claim, None, 1, Changes()))
        scene.other.delete(checkpoint_key(f"{scene.namespace}-contract", 0))
        assert run(store.apply(0, claim, 1, 2, Changes({"h": {b"x": b"1"}}))) is Outcome.FENCED
