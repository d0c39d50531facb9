from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.streams.folds.projection import Changes
from botify.streams.store.connect import connect, connect_async
from botify.streams.store.keys import checkpoint_key
from botify.streams.store.protocol import Outcome
from botify.streams.store.redis_store import RedisStore
from tests.store_contract import StoreContract


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
