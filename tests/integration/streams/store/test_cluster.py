"""Invariant: while a slot is migrated, and after it, every call is answered where its keys are, and none fails."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.services.errors import UnavailableError
from botify.services.gateway import scripts
from botify.services.gateway.scripts import ScriptBatcher
from botify.services.stack.ports import HOST
from botify.streams.folds.projection import Changes
from botify.streams.folds.users import USERS
from botify.streams.read import StateReader
from botify.streams.store.connect import SERVING_TIMEOUT_S, connect, connect_async
from botify.streams.store.keys import (
    checkpoint_key,
    default_namespace,
    gateway_session,
    gateway_slates,
    namespace_pointer,
    partition_key,
    write_probe,
)
from botify.streams.store.namespaces import live_namespace
from botify.streams.store.node import call
from botify.streams.store.protocol import Claim, Outcome
from botify.streams.store.redis_store import CopyLostError, RedisStore, point_in_time_copy
from tests.redis_cluster import Cluster, Node, running_cluster

BOTH = {"h": {b"x": b"1"}, "g": {b"y": b"2"}}
HALF_WAY_S = 0.3
"""How long a call is watched while it waits for a slot."""


def cluster_url(node: Node) -> str:
    return f"redis+cluster://{HOST}:{node.port}"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two masters, and a third one that gets slots from them."""
    with running_cluster(tmp_path_factory.mktemp("cluster"), masters=2, replicas=False, empty=1) as cluster:
        yield cluster


@pytest.fixture
def settings(cluster: Cluster) -> Settings:
    return Settings(redis_url=cluster_url(cluster.nodes[0]), topic_prefix=f"test-{uuid.uuid4().hex[:8]}", partitions=1)


@pytest.fixture
def redis(settings: Settings, loop: asyncio.Runner) -> Iterator[Any]:
    redis = connect_async(settings, SERVING_TIMEOUT_S)
    yield redis
    loop.run(redis.aclose())


class Migration:
    def __init__(self, cluster: Cluster, key: str) -> None:
        self._cluster = cluster
        self.slot = cluster.slot_of(key)
        self.source, self.to = cluster.master_of(self.slot), cluster.nodes[-1]

    def begin(self, *keys: str) -> None:
        self._cluster.begin_migration(self.slot, self.to)
        if keys:
            self._cluster.migrate_keys(self.source, self.to, keys)

    def end(self) -> None:
        if keys := self.source.client.cluster("GETKEYSINSLOT", self.slot, 100):
            self._cluster.migrate_keys(self.source, self.to, keys)
        self._cluster.end_migration(self.slot, self.to)

    async def ends_under(self, call: Awaitable[Any]) -> Any:
        """Return the call's result: it waits while the keys are apart, and is answered when the slot has moved."""
        calling = asyncio.ensure_future(call)
        done, _ = await asyncio.wait([calling], timeout=HALF_WAY_S)
        assert not done, calling.exception() or calling.result()
        await asyncio.to_thread(self.end)
        async with asyncio.timeout(10):
            return await calling


class Scene:
    """A partition with two collections, and a claim."""

    def __init__(self, cluster: Cluster, redis: Any, settings: Settings, script_arguments: int, run: Any) -> None:
        self.namespace = default_namespace(settings.topic_prefix)
        self.store = RedisStore(redis, self.namespace, script_arguments=script_arguments)
        self.checkpoint = checkpoint_key(self.namespace, 0)
        self.migration = Migration(cluster, self.checkpoint)
        self.claim: Claim = run(self.store.claim(0, "me", "t"))
        assert run(self.store.apply(0, self.claim, None, 1, Changes(BOTH))) is Outcome.APPLIED

    def key(self, collection: str) -> str:
        return partition_key(self.namespace, 0, collection)


@pytest.fixture(params=[pytest.param(10**9, id="scripts"), pytest.param(0, id="transactions")])
def scene(cluster: Cluster, redis: Any, settings: Settings, run: Any, request: pytest.FixtureRequest) -> Scene:
    return Scene(cluster, redis, settings, request.param, run)


def test_an_apply_waits_while_its_keys_are_apart(scene: Scene, run: Any) -> None:
    scene.migration.begin(scene.key("h"))
    apply = scene.store.apply(0, scene.claim, 1, 2, Changes({"h": {b"x": b"3"}, "g": {b"y": b"4"}}))
    assert run(scene.migration.ends_under(apply)) is Outcome.APPLIED
    hashes, _ = run(scene.store.read_whole(0, ["h", "g"], []))
    assert hashes == {"h": {b"x": b"3"}, "g": {b"y": b"4"}}


def test_a_claim_and_a_read_wait_while_the_checkpoint_is_away(scene: Scene, run: Any) -> None:
    async def both() -> Any:
        return await asyncio.gather(
            scene.store.claim(0, "another", "t"), scene.store.read_fields(0, {"h": [b"x"], "g": [b"y"]})
        )

    scene.migration.begin(scene.checkpoint)
    claim, fields = run(scene.migration.ends_under(both()))
    assert (claim.epoch, claim.next_offset, fields) == (2, 1, BOTH)


def test_the_pointer_is_read_while_its_slot_is_migrated(
    cluster: Cluster, redis: Any, settings: Settings, run: Any
) -> None:
    prefix = settings.topic_prefix
    migration = Migration(cluster, namespace_pointer(prefix))

    async def read() -> str:
        # now there are two connections to the other master: what is asked on one counts for no other
        await asyncio.gather(*(call(redis, ("GET", namespace_pointer(prefix))) for _ in range(2)))
        return await live_namespace(redis, prefix)

    migration.begin()
    try:
        assert run(asyncio.wait_for(read(), 5)) == default_namespace(prefix)
    finally:
        migration.end()


def test_a_master_without_slots_is_asked(tmp_path: Path, run: Any) -> None:
    with running_cluster(tmp_path, masters=1, replicas=False, empty=1) as cluster:
        settings = Settings(redis_url=cluster_url(cluster.nodes[0]), partitions=1)
        blocking, redis = connect(settings, SERVING_TIMEOUT_S), connect_async(settings, SERVING_TIMEOUT_S)
        reader = StateReader(blocking, settings)
        migration = Migration(cluster, partition_key(default_namespace(settings.topic_prefix), 0, USERS))
        assert reader.users([7]) == [None]
        migration.begin()
        assert reader.users([7]) == [None]
        assert run(call(redis, ("GET", write_probe(settings.topic_prefix, 0)))) is None
        migration.end()
        assert reader.users([7]) == [None]
        blocking.close()
        run(redis.aclose())


ITEMS = 20_000


def fill(redis: Any, run: Any, namespace: str) -> dict[bytes, bytes]:
    """Write a hash of several pages, with a claim, and return it."""
    items = {b"%d" % item: b"x" for item in range(ITEMS)}
    store = RedisStore(redis, namespace)
    claim = run(store.claim(0, "me", "t"))
    run(store.apply(0, claim, None, 1, Changes({USERS: items})))
    return items


async def read_while(pages: AsyncIterator[Any], change: Callable[[], object]) -> tuple[dict[bytes, bytes], int]:
    """Return all items of a scan, during which something happens after the first page, and how many were read."""
    found, count = {}, 0
    async for page in pages:
        found.update(page)
        if not count:
            await asyncio.to_thread(change)
        count += len(page)
    return found, count


def test_a_scan_begins_again_where_its_slot_is_now(cluster: Cluster, redis: Any, settings: Settings, run: Any) -> None:
    namespace = default_namespace(settings.topic_prefix)
    items = fill(redis, run, namespace)
    migration = Migration(cluster, checkpoint_key(namespace, 0))

    async def scan() -> tuple[dict[bytes, bytes], int]:
        async with point_in_time_copy(redis, namespace, 0) as copy:
            pages = copy.contents.pages(0, USERS)
            return await read_while(pages, lambda: cluster.migrate(migration.slot, migration.to))

    found, read = run(scan())
    assert found == items
    assert read > ITEMS, "the first page came twice"


def test_a_copy_that_is_lost_is_no_empty_state(cluster: Cluster, redis: Any, settings: Settings, run: Any) -> None:
    namespace = default_namespace(settings.topic_prefix)
    fill(redis, run, namespace)
    master = cluster.master_of(cluster.slot_of(checkpoint_key(namespace, 0))).client

    async def read() -> None:
        async with point_in_time_copy(redis, namespace, 0) as copy:
            assert master.delete(*master.keys(f"*{namespace}*copy*")) == 2
            async for _ in copy.contents.pages(0, USERS):
                pass

    with pytest.raises(CopyLostError, match="run the command again"):
        run(read())


COUNT = "return redis.call('INCR', KEYS[1])"


@asynccontextmanager
async def batcher_of(settings: Settings) -> AsyncIterator[ScriptBatcher]:
    batcher = ScriptBatcher(connect_async(settings, SERVING_TIMEOUT_S))
    try:
        yield batcher
    finally:
        await batcher.close()


class Counting:
    """Calls that follow one another closely on some keys, all of one slot or not, and their results."""

    def __init__(self, batcher: ScriptBatcher, keys: list[str]) -> None:
        self.counts = dict.fromkeys(keys, 0)
        self.failed: list[UnavailableError] = []
        self._batcher = batcher
        self._stopping = False

    async def count(self, key: str) -> None:
        while not self._stopping:
            try:
                self.counts[key] = await self._batcher.run(COUNT, key)
            except UnavailableError as error:
                self.failed.append(error)

    async def during(self, change: Callable[[], object]) -> None:
        counting = [asyncio.create_task(self.count(key)) for key in self.counts]
        await asyncio.sleep(HALF_WAY_S)
        before = dict(self.counts)
        await asyncio.to_thread(change)
        assert self._batcher.problem is None
        async with asyncio.timeout(5):
            while any(self.counts[key] <= count for key, count in before.items()):
                await asyncio.sleep(0.01)
        self._stopping = True
        await asyncio.gather(*counting)


@pytest.mark.parametrize("way", [Cluster.migrate, Cluster.migrate_by_keys], ids=["at once", "by keys"])
def test_no_call_of_a_gateway_fails_while_slots_are_migrated(
    cluster: Cluster, settings: Settings, run: Any, way: Callable[[Cluster, int, Node], None]
) -> None:
    keys = [gateway_session(settings.topic_prefix, user) for user in range(8)]

    def migrate_all() -> None:
        for key in keys:
            slot = cluster.slot_of(key)
            master = cluster.master_of(slot)
            way(cluster, slot, next(node for node in cluster.nodes if node is not master))

    async def scenario() -> list[UnavailableError]:
        async with batcher_of(settings) as batcher:
            counting = Counting(batcher, keys)
            await counting.during(migrate_all)
            return counting.failed

    assert run(scenario()) == []


def test_a_call_whose_keys_stay_apart_fails_and_no_other_does(
    cluster: Cluster, settings: Settings, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scripts, "TIMEOUT_S", 0.5)
    here, there = gateway_session(settings.topic_prefix, 1), gateway_slates(settings.topic_prefix, 1)
    migration = Migration(cluster, here)

    async def scenario() -> None:
        async with batcher_of(settings) as batcher:
            await asyncio.gather(batcher.run(COUNT, here), batcher.run(COUNT, there))
            await asyncio.to_thread(migration.begin, there)
            with pytest.raises(UnavailableError, match="TryAgainError"):
                await batcher.run("return redis.call('GET', KEYS[1])", (here, there))
            assert batcher.problem is None
            assert await batcher.run(COUNT, here) == 2

    try:
        run(scenario())
    finally:
        migration.end()
