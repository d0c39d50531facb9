"""Popular tracks are read with their listens, whatever the dates at which the partitions end."""

import asyncio
import json
from typing import Any, Self

import numpy as np
import pytest

from botify.core.settings import Settings
from botify.services.gateway.v1.items import Charts
from botify.streams.folds.popularity import HALF_LIVES_MS
from botify.streams.read import StateReader
from botify.streams.store.keys import default_namespace, partition_key
from botify.streams.store.protocol import MemoryStore
from tests.unit.streams.folds.oracles import Driven
from tests.unit.streams.worker.records import listen

YEAR_MS = 365 * 24 * 60 * 60 * 1000
# partition -> when its listens end: one of them long before the median, one long after it
ENDS_MS = {0: 1_400_000_000_000, 1: 1_400_000_000_000 + YEAR_MS, 2: 1_400_000_000_000, 3: 1_400_000_000_000 - YEAR_MS}


class Redis:
    """State that was folded from listens, each given as (partition, track, time); one is its own pipeline."""

    def __init__(self, settings: Settings, listens: list[tuple[int, int, int]]) -> None:
        store = MemoryStore()
        for partition in range(settings.partitions):
            heard = [listen("e", track, track, timestamp_ms=ms) for of, track, ms in listens if of == partition]
            if heard:
                Driven(partition, store).take([(at, one._replace(fraction=1.0)) for at, one in enumerate(heard)])
        namespace = default_namespace(settings.topic_prefix)
        self._state: dict[str, dict[bytes, Any]] = {
            partition_key(namespace, partition, name): items
            for (partition, name), items in [*store.hashes.items(), *store.scores.items()]
        }

    def get(self, _key: str) -> None:
        return None

    def hget(self, _key: str, _field: str) -> None:
        return None

    def pipeline(self, *, transaction: bool) -> Self:
        assert not transaction
        self._replies: list[Any] = []
        return self

    def zrange(self, key: str, _first: int, last: int, **_: bool) -> None:
        self._replies.append(sorted(self._state.get(key, {}).items(), key=lambda one: -one[1])[: last + 1])

    def hmget(self, key: str, fields: list[bytes]) -> None:
        self._replies.append([self._state.get(key, {}).get(field) for field in fields])

    def execute(self) -> list[Any]:
        return self._replies


@pytest.fixture
def reader() -> StateReader:
    listens = [(p, track, end - age) for p, end in ENDS_MS.items() for track, age in ((10 + p, 0), (20, 3_600_000))]
    settings = Settings(partitions=len(ENDS_MS))
    return StateReader(Redis(settings, listens), settings)


@pytest.mark.parametrize("half_life", HALF_LIVES_MS)
def test_no_track_has_more_listens_than_were_heard(reader: StateReader, half_life: str) -> None:
    top = reader.top_tracks(half_life, 10)
    assert top.now_ms == max(ENDS_MS.values())
    ages_ms = {11: [0], 20: [YEAR_MS + 3_600_000] * 2 + [3_600_000, 2 * YEAR_MS + 3_600_000]}
    listens = dict(zip(top.tracks.tolist(), top.listens.tolist(), strict=True))
    for track, ages in ages_ms.items():
        assert listens[track] == pytest.approx(sum(2.0 ** (-age / HALF_LIVES_MS[half_life]) for age in ages))
    assert (np.diff(top.listens) <= 0).all()
    assert set(top.tracks[:2].tolist()) == {11, 20}  # those of the partition that ends last


def test_charts_are_finite_numbers_of_listens(reader: StateReader) -> None:
    charts = Charts(reader)
    for half_life in HALF_LIVES_MS:
        chart = asyncio.run(charts.popular(half_life))
        assert {track for track, _ in chart} == {10, 11, 12, 13, 20}
        assert all(0 <= listens <= 8 for _, listens in chart)
    json.dumps(asyncio.run(charts.rising()), allow_nan=False)


def test_without_listens_nothing_is_popular() -> None:
    settings = Settings(partitions=1)
    top = StateReader(Redis(settings, []), settings).top_tracks("1d", 10)
    assert (top.tracks.tolist(), top.listens.tolist(), top.now_ms) == ([], [], 0)
