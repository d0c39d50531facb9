"""What redis-py does to a connection in use is an error like others."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from botify.streams.store.node import on_connection


class FakeConnection:
    """A connection that the client may close at any time."""

    def __init__(self) -> None:
        self.is_connected = True
        self.retry = self

    async def call_with_retry(self, talk: Any, _: Any) -> Any:
        return await talk()

    async def disconnect(self, *, nowait: bool = False) -> None:
        self.is_connected = False


class OneNode(RedisCluster):
    """A cluster of a node with one connection."""

    def __init__(self) -> None:
        self._initialize: Any = True  # nothing to close
        self.connection = FakeConnection()
        self.free = True

    async def initialize(self, *_: object, **__: object) -> OneNode:
        return self

    def get_node_from_key(self, *_: object, **__: object) -> Any:
        return self

    def acquire_connection(self) -> FakeConnection:
        self.free = False
        return self.connection

    async def disconnect_if_needed(self, _: FakeConnection) -> None:
        pass

    def release(self, _: FakeConnection) -> None:
        self.free = True


@pytest.mark.parametrize(("closes", "error"), [(True, RedisConnectionError), (False, AttributeError)])
def test_a_connection_that_is_closed_in_use_is_lost(closes: bool, error: type[Exception]) -> None:
    cluster = OneNode()

    async def talk(connection: FakeConnection) -> None:
        if closes:
            await connection.disconnect()
        raise AttributeError("'NoneType' object has no attribute 'writelines'")

    with pytest.raises(error):
        asyncio.run(on_connection(cluster, "key", talk))
    assert cluster.free
