"""Invariant: after a swap the last snapshots on the topic are those of the namespace that is live."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Model
from schemas.models import model_of
from schemas.validation import Intake
from streams.folds.projection import Changes
from streams.learner.__main__ import LearnerApp, build_app
from streams.learner.partition import SNAPSHOTS
from streams.store.protocol import MemoryStore

CODEC = Codec()


class Sent:
    def __init__(self) -> None:
        self.models: list[Any] = []

    async def emit(self, events: Sequence[Any], rejected: Sequence[Any]) -> None:
        self.models += events


@pytest.fixture
def app(tmp_path: Path) -> LearnerApp:
    """An app that was never started."""
    return build_app(Settings(home=tmp_path))


async def store_with(*models: Model) -> MemoryStore:
    store = MemoryStore()
    snapshots = {model.name.encode(): CODEC.encode(model) for model in models}
    await store.apply(0, await store.claim(0, "rebuild", "id"), None, 5, Changes(hashes={SNAPSHOTS: snapshots}))
    return store


def test_a_learner_publishes_the_snapshots_of_the_namespace_that_it_follows_to(app: LearnerApp) -> None:
    rebuilt = model_of("fism", 900, b"clean", 1)

    async def main() -> None:
        sent, former, new = Sent(), await store_with(model_of("fism", 1000, b"poisoned", 1)), await store_with(rebuilt)
        app.publisher = sent  # type: ignore[assignment]
        app.sources = SimpleNamespace(intake=Intake(CODEC), open=lambda *_: None)  # type: ignore[assignment]
        for store in (former, former):  # a start, and a claim after a rebalance
            await app.open_partition(0, await store.claim(0, "me", "id"), 5, store)
            assert sent.models == []
        await app.open_partition(0, await new.claim(0, "me", "id"), 5, new)
        assert sent.models == [rebuilt]

    asyncio.run(main())
