"""Invariant: a reader that starts prepares the newest usable snapshot of each model, and one before it at most."""

import threading
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.models import ModelReader, label_of, model_of
from tests.support import FakeMessage, eventually

CODEC = Codec()


class Records:
    """A consumer of a topic that has some models: the first of them when a reader starts, and one more each refresh."""

    def __init__(self, models: list[Model], at_start: int) -> None:
        self._polls: list[list[Any]] = []
        for offset, model in enumerate(models):
            of_model = {"key": model.name.encode(), "value": CODEC.encode(model)}
            message = FakeMessage(offset=offset, timestamp=(1, 5_000), **of_model)
            self._polls += [[message], []]  # the broker says after each that it was the last
        self._found = at_start

    @property
    def is_behind(self) -> bool:
        return any(self._polls)

    def poll_until(self, *_: Any, **__: Any) -> Iterator[list[Any]]:
        found, self._found = self._found, 1
        yield from (self._polls.pop(0) for _ in range(2 * found))

    def poll(self, *_: Any, **__: Any) -> list[Any]:
        return self._polls.pop(0) if self._polls else []

    def close(self) -> None:
        pass


def reader_and_records(
    models: list[Model], monkeypatch: pytest.MonkeyPatch, at_start: int
) -> tuple[ModelReader, Records]:
    records = Records(models, at_start)
    monkeypatch.setattr("botify.core.kafka.reader.AssignedConsumer", lambda *_, **__: records)
    monkeypatch.setattr("botify.core.kafka.reader.end_offsets", lambda *_: {0: at_start})
    return ModelReader(Settings(), CODEC), records


@pytest.mark.parametrize(("newest", "prepared"), [(b"4", [4]), (b"rubbish", [3])])
def test_only_what_is_served_is_prepared(newest: bytes, prepared: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    models = [model_of("m", version, body, 0) for version, body in enumerate([b"1", b"2", b"3", newest], start=1)]
    (reader, _), made = reader_and_records(models, monkeypatch, at_start=4), list[int]()
    followed = reader.follow("m", lambda model: made.append(int(model.body)))
    reader.refresh()
    assert made == prepared
    assert (followed.version, followed.offset, followed.newest_offset) == (prepared[-1], prepared[-1] - 1, 3)


@pytest.mark.parametrize(("newest", "prepared"), [(b"5", [1, 5]), (b"rubbish", [1, 4])])
def test_a_reader_that_is_behind_prepares_the_newest_alone(
    newest: bytes, prepared: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [model_of("m", version, body, 0) for version, body in enumerate([b"1", b"2", b"3", b"4", newest], start=1)]
    (reader, _), made = reader_and_records(models, monkeypatch, at_start=1), list[int]()
    followed = reader.follow("m", lambda model: made.append(int(model.body)))
    reader.start()
    eventually(lambda: followed.newest_offset == 4 and len(made) > 1, timeout_s=5.0, what=lambda: made)
    reader.close()
    assert made == prepared


def test_what_is_in_use_stays_while_somebody_answers_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    models = [model_of("m", version, b"%d" % version, 0) for version in (1, 2)]
    (reader, _), made = reader_and_records(models, monkeypatch, at_start=1), list[str]()
    followed = reader.follow("m", lambda model: made.append(text_of(model)))
    reader.refresh()
    with reader.swapping:
        following = threading.Thread(target=reader.refresh)
        following.start()
        eventually(lambda: made == ["1", "2"], timeout_s=5.0)
        following.join(0.2)  # time to serve it, if nothing held it
        assert (followed.version, reader.in_use()) == (1, {"m": label_of(models[0])})
    following.join(5.0)
    assert (followed.version, reader.in_use()) == (2, {"m": label_of(models[1])})


def sharded(*arrivals: tuple[str, int]) -> list[Model]:
    return [model_of(name, version, b"%d" % version, version) for name, version in arrivals]


def added(bodies: Sequence[bytes]) -> bytes:
    """Merge as no model does: the bodies in the order of their shards."""
    return b"+".join(bodies)


def text_of(model: Model) -> str:
    if b"rubbish" in model.body:
        raise ValueError("rubbish")
    return model.body.decode()


def served(models: list[Model], monkeypatch: pytest.MonkeyPatch, at_start: int | None = None) -> list[str]:
    """Return what a reader that follows `m`, and nothing else, has served, one after another."""
    start = len(models) if at_start is None else at_start
    (reader, records), made = reader_and_records(models, monkeypatch, start), list[str]()
    followed = reader.follow("m", lambda model: made.append(text_of(model)), added)
    reader.refresh()
    while records.is_behind:
        reader.refresh()
    if not any(b"rubbish" in model.body for model in models if model.name.startswith("m")):
        assert followed.offset == followed.newest_offset
    assert reader.on_topic() == ([("m", followed)] if made else [])
    return made


def test_a_model_that_nobody_follows_is_ignored(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gone = [model_of("gone", 1, b"rubbish", 0), *sharded(("gone@0of2", 2), ("gone@1of2", 3))]
    assert served([*gone, model_of("m", 4, b"4", 0), *gone], monkeypatch, at_start=4) == ["4"]
    assert not caplog.records


def test_shards_are_served_when_the_last_of_them_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert served(sharded(("m@0of2", 1), ("m@0of2", 2)), monkeypatch) == []
    late = sharded(("m@1of2", 1), ("m@1of2", 2), ("m@0of2", 5))
    assert served(late, monkeypatch) == ["5+2"]  # in the order of the shards
    assert served([*reversed(late[1:])], monkeypatch) == ["5+2"]


@pytest.mark.parametrize(
    ("arrivals", "at_start", "expected"),
    [
        ("m:1 m@0of2:2", None, ["1"]),  # the other shard has not learned enough
        ("m:1 m@0of2:2 m@1of2:3", None, ["2+3"]),
        ("m@0of2:2 m@1of2:3 m:1", None, ["1"]),
        ("m@0of2:2 m@1of2:3 m:1 m@1of2:4", None, ["1"]),  # both must have come since
        ("m@0of2:2 m@1of2:3 m@0of3:4 m@1of3:5", None, ["2+3"]),
        ("m@0of2:2 m@1of2:3 m@0of1:4", None, ["2+3"]),  # no shard has this name
        # shards of another number are replaced, and so are whole models and shards of before one
        ("m@0of2:1 m@1of2:2 m@0of3:3 m@1of3:4 m@2of3:5 m@0of2:6 m:7", 2, ["1+2", "3+4+5", "7"]),
        ("m@0of2:1 m@1of2:2 m:3 m@1of2:4", 2, ["1+2", "3"]),
    ],
)
def test_the_newest_that_is_complete_is_served(
    arrivals: str, at_start: int | None, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [(name, int(version)) for name, _, version in (one.partition(":") for one in arrivals.split())]
    assert served(sharded(*models), monkeypatch, at_start) == expected


def test_an_unusable_shard_leaves_the_one_before_it_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    models = sharded(("m@0of2", 1), ("m@1of2", 2))
    models.append(model_of("m@1of2", 3, b"rubbish", 3))
    assert served(models, monkeypatch) == ["1+2"]
    assert served([*models, *sharded(("m@0of2", 4))], monkeypatch) == ["1+2"]
    mended = sharded(("m@0of2", 4), ("m@1of2", 5))
    assert served([*models, *mended], monkeypatch, at_start=2) == ["1+2", "4+2", "4+5"]


def test_who_does_not_merge_follows_no_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, _ = reader_and_records(sharded(("m@0of2", 1), ("m@1of2", 2)), monkeypatch, 2)
    followed = reader.follow("m", lambda model: model)
    reader.refresh()
    assert (followed.current, reader.on_topic()) == (None, [])
