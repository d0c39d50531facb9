"""Invariant: a reader of the models topic has a body that was published, whole, whatever it has read so far."""

import hashlib
import itertools
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest

from botify.core.errors import DecodeError
from botify.core.kafka.publisher import RecordPublisher
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.model_parts import ModelParts, ModelPublisher, name_and_part
from botify.schemas.models import model_of

CODEC = Codec()
Log = list[tuple[bytes, bytes | None]]


class Topic:
    def __init__(self) -> None:
        self.log: Log = []

    def send(self, topic: str, value: bytes | None, key: bytes) -> None:
        self.log.append((key, value))

    def flush(self) -> None:
        pass

    def parts(self) -> dict[str, set[str]]:
        found = defaultdict[str, set[str]](set)
        for name, part in (name_and_part(key) for key, value in compacted(self.log) if value is not None):
            if part:
                found[name].add(part)
        return found

    def publisher(self) -> ModelPublisher:
        return ModelPublisher(Settings(), CODEC, cast(RecordPublisher, self), self.parts)


def compacted(log: Log) -> Log:
    newest = {key: at for at, (key, _) in enumerate(log)}
    return [record for at, record in enumerate(log) if newest[record[0]] == at]


class Reader:
    def __init__(self) -> None:
        self.body: bytes | None = None
        self._parts = ModelParts()

    def read(self, log: Log) -> bytes | None:
        for key, value in log:
            name, part = name_and_part(key)
            if part:
                self._parts.take(name, part, None if value is None else CODEC.decode(value, Model).body)
            elif value is not None:
                model = CODEC.decode(value, Model)
                try:
                    self.body = (model if model.parts is None else self._parts.whole(model)).body[:]
                except DecodeError:
                    continue
        return self.body


def bodies(n: int, size: int = 5_000) -> list[bytes]:
    rng = np.random.default_rng(0)
    made = [rng.bytes(size)]
    for _ in range(n - 1):
        body = bytearray(made[-1])
        for at in rng.integers(0, size, size // 100).tolist():
            body[at] ^= 0xFF
        made.append(bytes(body))
    return made


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("botify.schemas.model_parts.PART_BYTES", 1_000)


def published(n: int) -> tuple[Topic, list[bytes]]:
    topic, made = Topic(), bodies(n)
    publisher = topic.publisher()
    for version, body in enumerate(made):
        publisher.send(model_of("m", version, body, 0))
    return topic, made


def test_at_each_record_a_reader_has_the_last_body_that_is_complete() -> None:
    topic, made = published(6)
    reader, seen = Reader(), []
    for record in topic.log:
        if (body := reader.read([record])) is not None and (not seen or seen[-1] != body):
            seen.append(body)
    assert seen == made


def test_a_reader_that_starts_at_any_record_of_any_compaction_has_a_published_body_or_none() -> None:
    topic, made = published(6)
    for at in range(len(topic.log)):
        for start in (topic.log[:at], compacted(topic.log[:at])):
            assert Reader().read(start) in {None, *made}
            assert Reader().read(start + topic.log[at:]) == made[-1]
        assert Reader().read(topic.log[at:]) in {None, made[-1]}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="has no device that is full")
@pytest.mark.parametrize("full_at", range(6))
def test_a_disk_that_is_full_for_a_moment_leaves_no_model_stale(full_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is written then: a part or a body."""
    topic, made = published(3)
    reader, files, opened = Reader(), itertools.count(), tempfile.TemporaryFile

    def full_once(**options: Any) -> IO[bytes]:
        return open("/dev/full", "w+b", buffering=0) if next(files) == full_at else opened(**options)  # noqa: PTH123

    monkeypatch.setattr(tempfile, "TemporaryFile", full_once)
    seen = [reader.read([record]) for record in topic.log]
    assert next(files) > full_at
    assert [body for body in made if body in seen] == made


def test_a_publisher_killed_at_any_record_is_replaced_by_one_that_removes_its_parts() -> None:
    topic, made = published(5)
    assert len(topic.parts()["m"]) == 5
    for at in range(1, len(topic.log)):
        after = Topic()
        after.log = topic.log[:at]
        reader = Reader()
        before = reader.read(after.log)
        after.publisher().send(model_of("m", 9, made[-1], 0))
        for record in after.log[at:]:
            assert reader.read([record]) in {before, made[-1]}
        assert reader.body == Reader().read(compacted(after.log)) == made[-1]
        (manifest,) = [CODEC.decode(value, Model) for key, value in compacted(after.log) if key == b"m" and value]
        assert after.parts() == {"m": set(manifest.parts or ())}


def test_a_publisher_that_begins_again_names_no_part_of_before() -> None:
    topic, made = Topic(), bodies(2)
    publisher = topic.publisher()
    publisher.send(model_of("m", 1, made[0], 0))
    before = topic.parts()["m"]
    publisher.begin()
    publisher.send(model_of("m", 1, made[0], 0))
    assert not before & topic.parts()["m"]
    assert Reader().read(compacted(topic.log)) == made[0]


def test_a_part_or_a_body_with_another_digest_is_refused() -> None:
    parts, digest = ModelParts(), hashlib.sha256(b"part").hexdigest()
    with pytest.raises(DecodeError, match=f"the part s/0/{digest} of model 'm' does not have its digest"):
        parts.take("m", f"s/0/{digest}", b"pXrt")
    parts.take("m", f"s/0/{digest}", b"part")
    with pytest.raises(DecodeError, match="the body of model 'm' does not have its digest"):
        parts.whole(Model("m", 1, b"", hashlib.sha256(b"other").hexdigest(), 0, [f"s/0/{digest}"]))
    with pytest.raises(DecodeError, match="1 of 2 parts of model 'm' are not on the topic"):
        parts.whole(Model("m", 1, b"", digest, 0, [f"s/0/{digest}", "s/1/x"]))
