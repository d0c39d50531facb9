"""Invariant: whoever follows a model has the topic's last good snapshot of it, however the record was made."""

import logging
from collections.abc import Iterator
from contextlib import closing

import numpy as np
import pytest

from botify.core.errors import TopicError
from botify.core.settings import Settings
from botify.schemas.codec import Codec
from botify.schemas.events import Model
from botify.schemas.model_parts import parts_on_topic
from botify.schemas.models import MAX_BODY_BYTES, ModelReader, model_of, publish_models
from botify.schemas.topics import Topics
from tests.support import eventually, produce_raw

CODEC = Codec()


@pytest.fixture
def reader(settings: Settings) -> Iterator[ModelReader]:
    with closing(ModelReader(settings, CODEC)) as reader:
        yield reader


def text_of(model: Model) -> str:
    return model.body.decode()


def test_what_is_there_is_known_at_the_start_and_what_comes_soon_after(settings: Settings, reader: ModelReader) -> None:
    publish_models(settings, CODEC, [model_of("a", version, b"%d" % version, 0) for version in (1, 2)])
    a, b, again = reader.follow("a", text_of), reader.follow("b", text_of), reader.follow("a", len)
    reader.start()
    assert (a.current, a.version, b.current, b.version) == ("2", 2, None, -1)
    publish_models(settings, CODEC, [model_of("b", 1, b"one", 0), model_of("a", 3, b"three", 0)])
    eventually(lambda: a.current == "three", what=lambda: a.current)
    assert (b.current, again.version) == ("one", 3)


def test_the_biggest_body_travels_and_a_bigger_one_is_refused_before(settings: Settings, reader: ModelReader) -> None:
    body = np.random.default_rng(0).bytes(40_000_000)  # more than two records have room for
    publish_models(settings, CODEC, [model_of("big", 1, body, 0)])
    followed = reader.follow("big", lambda model: model.body)
    reader.refresh()
    assert followed.current is not None
    assert followed.current[:] == body
    with pytest.raises(TopicError, match="model 'big' has 268,435,457 bytes, and at most 268,435,456 are served"):
        model_of("big", 1, bytes(MAX_BODY_BYTES + 1), 0)


def test_a_large_model_that_replaces_another_leaves_only_its_own_parts(
    settings: Settings, reader: ModelReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botify.schemas.model_parts.PART_BYTES", 1_000)
    big, topic = reader.follow("big", lambda model: model.body[:]), Topics.of(settings).models.name
    for version in (1, 2):
        publish_models(settings, CODEC, [model_of("big", version, bytes([version]) * 2_500, 0)])
    reader.start()
    assert big.current == bytes([2]) * 2_500
    (parts,) = parts_on_topic(settings, topic).values()
    assert len(parts) == 2  # two of three are equal
    publish_models(settings, CODEC, [model_of("big", 3, b"small", 0)])
    assert parts_on_topic(settings, topic) == {"big": set()}
    eventually(lambda: big.current == b"small", what=lambda: big.current)


def test_what_cannot_be_read_is_left_out_and_said(
    settings: Settings, reader: ModelReader, caplog: pytest.LogCaptureFixture
) -> None:
    good = model_of("a", 1, b"1", 0)
    torn = CODEC.encode(good._replace(body=b"2"))
    publish_models(settings, CODEC, [good])
    produce_raw(settings, Topics.of(settings).models.name, [(b"a", b"rubbish"), (b"a", torn), (b"a", None)])
    publish_models(settings, CODEC, [model_of("n", 1, b"1", 0), model_of("n", 2, b"not a number", 0)])
    a, n = reader.follow("a", text_of), reader.follow("n", lambda model: int(model.body))
    with caplog.at_level(logging.WARNING):
        reader.refresh()
    assert (a.current, n.current, n.version) == ("1", 1, 1)
    told = [record.getMessage().partition("is skipped: ")[2][:40] for record in caplog.records]
    assert told == [
        "no Confluent wire format: it starts with",
        "the body of model 'a' does not have its ",
        "invalid literal for int() with base 10: ",
    ]
