"""Invariant: a reader that starts prepares the newest usable snapshot of each model, and one before it at most."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from core.settings import Settings
from schemas.codec import Codec
from schemas.events import Model
from schemas.models import ModelReader, model_of

CODEC = Codec()


class Records:
    """A consumer of a topic that has some models."""

    def __init__(self, models: list[Model]) -> None:
        self._models = models

    def poll_until(self, *_: Any, **__: Any) -> Iterator[list[Any]]:
        for offset, model in enumerate(self._models):
            key, value = model.name.encode(), CODEC.encode(model)
            yield [SimpleNamespace(key=lambda k=key: k, value=lambda v=value: v, offset=lambda o=offset: o,
                                   timestamp=lambda: (1, 5_000))]  # fmt: skip


def reader_of(models: list[Model], monkeypatch: pytest.MonkeyPatch) -> ModelReader:
    monkeypatch.setattr("core.kafka.follower.AssignedConsumer", lambda *_, **__: Records(models))
    monkeypatch.setattr("core.kafka.follower.end_offsets", lambda *_: {0: len(models)})
    return ModelReader(Settings(), CODEC)


@pytest.mark.parametrize(("newest", "prepared"), [(b"4", [4]), (b"rubbish", [3])])
def test_only_what_is_served_is_prepared(newest: bytes, prepared: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [b"1", b"2", b"3", newest]
    models = [model_of("m", version, body, 0) for version, body in enumerate(bodies, start=1)]
    reader, made = reader_of(models, monkeypatch), list[int]()
    followed = reader.follow("m", lambda model: made.append(int(model.body)))
    reader.refresh()
    assert made == prepared
    assert (followed.version, followed.offset, followed.newest_offset) == (prepared[-1], prepared[-1] - 1, 3)
