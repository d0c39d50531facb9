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
from tests.support import eventually

CODEC = Codec()


class Records:
    """A consumer of a topic that has some models, the first of them when a reader starts."""

    def __init__(self, models: list[Model], at_start: int) -> None:
        self._polls: list[list[Any]] = []
        for offset, model in enumerate(models):
            key, value = model.name.encode(), CODEC.encode(model)
            message = SimpleNamespace(key=lambda k=key: k, value=lambda v=value: v, offset=lambda o=offset: o,
                                      timestamp=lambda: (1, 5_000))  # fmt: skip
            self._polls += [[message], []]  # the broker says after each that it was the last
        self._at_start = at_start

    @property
    def is_behind(self) -> bool:
        return any(self._polls)

    def poll_until(self, *_: Any, **__: Any) -> Iterator[list[Any]]:
        yield from (self._polls.pop(0) for _ in range(2 * self._at_start))

    def poll(self, *_: Any, **__: Any) -> list[Any]:
        return self._polls.pop(0) if self._polls else []

    def close(self) -> None:
        pass


def reader_of(models: list[Model], monkeypatch: pytest.MonkeyPatch, at_start: int) -> ModelReader:
    monkeypatch.setattr("core.kafka.follower.AssignedConsumer", lambda *_, **__: Records(models, at_start))
    monkeypatch.setattr("core.kafka.follower.end_offsets", lambda *_: {0: at_start})
    return ModelReader(Settings(), CODEC)


@pytest.mark.parametrize(("newest", "prepared"), [(b"4", [4]), (b"rubbish", [3])])
def test_only_what_is_served_is_prepared(newest: bytes, prepared: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    bodies = [b"1", b"2", b"3", newest]
    models = [model_of("m", version, body, 0) for version, body in enumerate(bodies, start=1)]
    reader, made = reader_of(models, monkeypatch, at_start=4), list[int]()
    followed = reader.follow("m", lambda model: made.append(int(model.body)))
    reader.refresh()
    assert made == prepared
    assert (followed.version, followed.offset, followed.newest_offset) == (prepared[-1], prepared[-1] - 1, 3)


@pytest.mark.parametrize(("newest", "prepared"), [(b"5", [1, 5]), (b"rubbish", [1, 4])])
def test_a_reader_that_is_behind_prepares_the_newest_alone(
    newest: bytes, prepared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [model_of("m", version, body, 0) for version, body in enumerate([b"1", b"2", b"3", b"4", newest], start=1)]
    reader, made = reader_of(models, monkeypatch, at_start=1), list[int]()
    followed = reader.follow("m", lambda model: made.append(int(model.body)))
    reader.start()
    eventually(lambda: followed.newest_offset == 4 and len(made) > 1, timeout_s=5.0, what=lambda: made)
    reader.close()
    assert made == prepared
