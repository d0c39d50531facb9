"""Invariant: a worker holds no partition that the group has given to another, and one that has none is ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from schemas.settings import Settings
from streams.learner.app import build_app as build_learner
from streams.worker.app import build_app as build_worker
from streams.worker.folding_app import FoldingApp
from streams.worker.transport import BatchConsumer


class Noted:
    """Notes what is claimed."""

    def __init__(self) -> None:
        self.claims: list[set[int]] = []

    async def claim(self, partitions: set[int]) -> Mapping[int, int]:
        self.claims.append(partitions)
        return {}


@pytest.mark.parametrize("build_app", [build_worker, build_learner])
def test_one_that_is_assigned_nothing_lets_go_of_all(build_app: Callable[[Settings], FoldingApp]) -> None:
    async def main() -> list[set[int]]:
        app, noted = build_app(Settings()), Noted()
        app.partitions = noted  # type: ignore[assignment]
        await app.on_partitions_assigned.send(set())
        await app.on_partitions_assigned.send({TP("t", 0)})  # a seek follows, which claims
        return noted.claims

    assert asyncio.run(main()) == [set()]


def test_seeking_in_a_partition_that_is_gone_does_nothing() -> None:
    class Lost(BatchConsumer):
        def __init__(self) -> None:
            """Need nothing."""

        async def seek_wait(self, partitions: Mapping[TP, int]) -> Any:
            raise IllegalStateError(f"No current assignment for partition {partitions}")

    asyncio.run(Lost().seek_back(TP("t", 0), 7))
